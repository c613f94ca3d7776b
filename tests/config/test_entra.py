"""``entra``: what the check of a configuration says of it."""

from __future__ import annotations

from claudeproxyd.config.report import report
from claudeproxyd.executors.kinds import BUILT_IN
from tests.config.support import ConfigTestCase
from tests.secrets.test_entra import KEY, PEM, pem_of

MAKERS = {maker.kind: maker for maker in BUILT_IN}


def section(members: str, kind: str = "anthropic") -> str:
    """A provider with one such credential."""
    return (
        f'[[providers]]\nname = "azure"\nkind = "{kind}"\nbase_url = "https://r.services.ai.azure.com/anthropic"\n'
        f'[[providers.credentials]]\nname = "app"\nentra = {{ {members} }}\n'
    )


IDS = 'tenant_id = "8b7d6c5e-1234-4abc-8def-0123456789ab", client_id = "app-1"'
SECRET = f'{IDS}, client_secret = "hunter2-of-the-app"'


class EntraTests(ConfigTestCase):
    """As operators meet it."""

    def test_good(self) -> None:
        """It is a credential of any kind that takes bearer tokens; the report says where its secret comes from."""
        self.write("app.pem", PEM)
        self.write("secret", "hunter2-of-the-app")
        for members, shown in (
            (SECRET, "entra ****"),
            (f'{IDS}, client_secret = {{ file = "secret" }}', "entra **** (file "),
            (f'{IDS}, certificate = {{ file = "app.pem" }}', "entra **** (file "),
        ):
            loaded = self.load(section(members))
            (credential,) = loaded.config.providers[0].credentials
            self.assertEqual(credential.entra.scope, "https://cognitiveservices.azure.com/.default")
            told = report(loaded, MAKERS)
            self.assertIn(f"credential app: {shown}", told)
            self.assertNotIn("hunter2", told)

    def test_mistakes(self) -> None:
        """Each names the member, and none quotes a secret."""
        self.write("key.pem", pem_of(KEY))
        for members, member in (
            (SECRET.replace("8b7d6c5e-", "8b7d6c5e/"), "entra.tenant_id"),
            (SECRET.replace("tenant_id", "tennant_id"), "entra.tennant_id"),
            (IDS, "entra"),
            (f'{SECRET}, certificate = "hunter2"', "entra"),
            (f'{IDS}, certificate = {{ file = "key.pem" }}', "entra.certificate"),
            (f'{IDS}, certificate = "hunter2"', "entra.certificate"),
            (f'{SECRET}, scope = ""', "entra.scope"),
            (f'{SECRET}, scope = "a b"', "entra.scope"),
            (f'{SECRET}, authority = "login.microsoftonline.com"', "entra.authority"),
            (f'{SECRET}, authority = "http://login.microsoftonline.com"', "entra.authority"),
        ):
            problems = [str(each) for each in self.problems(section(members))]
            self.assertTrue(any(f"credentials[0].{member} " in each for each in problems), (members, problems))
            self.assertNotIn("hunter2", " ".join(problems))
        self.load(section(f'{SECRET}, authority = "http://127.0.0.1:1"'))

    def test_other_kinds(self) -> None:
        """A kind that takes keys alone refuses it, and says what it takes."""
        problem = self.problem(section(SECRET, "gemini"))
        self.assertEqual(problem.path, "providers[0].credentials[0].entra")
        self.assertIn("api_key", problem.hint)
