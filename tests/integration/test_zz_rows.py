import json, os, asyncio
import pytest
from pytest_twisted import ensureDeferred
from tests.integration.support import answers, wire
from tests.integration.support import gemini as google
from tests.integration.support.daemon import provider, SANDBOX, ADMIN_KEY
from tests.integration.support.process import eventually, sleep, run
from twisted.internet.defer import gatherResults, ensureDeferred as start
M = wire.Message
def say(row, ok, detail=""):
    with open("/tmp/opm/audit/out.txt", "a") as f: f.write(f"{'ok   ' if ok else 'WRONG'} | {row} | {str(detail)[:300]}\n")
def odd(**more): return answers.message(**more)

@ensureDeferred
async def test_a1(start_daemon, upstream):
    d = await start_daemon(provider(upstream, "key-a", "key-b"))
    base = answers.message()
    def b(**kw): return json.dumps({**base, **kw}).encode()
    u = base["usage"]
    cases = {
     "11.0": b(usage={**u, "input_tokens": 11.0}), '"11"': b(usage={**u, "input_tokens": "11"}), "usage []": b(usage=[]),
     "details []": b(usage={**u, "output_tokens_details": []}), "cache {}": b(usage={**u, "cache_read_input_tokens": {"a": 1}}),
     "stop {}": b(stop_reason={"a": 1}), "surrogate text": b(content=[{"type":"text","text":"X"}]).replace(b'"X"', b'"\\ud99c"'),
     "surrogate input": b(content=[{"type":"tool_use","id":"toolu_1","name":"t","input":{"a":"X"}}]).replace(b'"X"', b'"\\ud99c"'),
     "BOM": b"\xef\xbb\xbf" + b(), "NaN": b(extra="X").replace(b'"X"', b"NaN")}
    for name, body in cases.items():
        upstream.requests.clear(); upstream.script(answers.whole(body))
        a = await wire.post(d.port, M().encode())
        say(f"core odd answer {name}", a.status == 200 and a.body == body and len(upstream.requests) == 1, (a.status, len(upstream.requests)))
    upstream.script(answers.whole(b'{"input_tokens": 11.0}'))
    upstream.requests.clear()
    a = await wire.post(d.port, M().encode(), path="/v1/messages/count_tokens")
    say("core odd count 11.0", a.status == 200 and len(upstream.requests) == 1, (a.status, a.body))
    # a 200 no JSON: words nowhere
    upstream.script(answers.whole(b"The patient Smith said nothing of the kind"))
    a = await wire.post(d.port, M().encode())
    p = json.dumps(await d.pool())
    say("core 200 no JSON: words not in log/pool", "Smith" not in d.log and "Smith" not in p, a.status)
    say("core: paid repeats bound", len(upstream.requests) < 12, len(upstream.requests))

@ensureDeferred
async def test_fast(start_daemon, upstream):
    d = await start_daemon(provider(upstream, "key-a", "key-b"))
    s = "This request would exceed your organization's rate limit of 0 fast mode input tokens per minute (org: 3f2504e0-4f89-11d3-9a0c-0305e82c3301, model: claude-opus-4-6). Please"
    upstream.script(answers.error(429, "rate_limit_error", s, retry_after="37"))
    a = await wire.post(d.port, M(more={"speed": "fast"}).encode())
    say("core fast mode 429", a.status == 429 and "0 fast mode" in a.body.decode() and "3f2504e0" not in a.body.decode() and a.headers.get("retry-after") == "37", (a.body, a.headers.get("retry-after")))
    p = await d.pool()
    say("core fast mode nothing rests", not any(c["cooldowns"] for c in p["credentials"]))
    for s in ("You're out of extra usage", "Extra usage is required for 1M context", "Usage credits are required for 1M context"):
        upstream.script(answers.error(429, "rate_limit_error", s))
        a = await wire.post(d.port, M().encode())
        p = await d.pool()
        say(f"core extra usage: {s}", not any(c["cooldowns"] for c in p["credentials"]), a.body)
    for stat in (400, 413, 422, 404, 500, 503, 529):
        upstream.script(answers.error(stat, "api_error", "bad key key-a-very-long-1 here"))
    
@ensureDeferred
async def test_echo(start_daemon, upstream):
    sec = provider(upstream, "key-a").replace('api_key = "key-a"', 'api_key = "planted-key-0123456789"')
    d = await start_daemon(sec)
    for stat in (400, 401, 403, 404, 413, 422, 429, 500, 503, 529):
        upstream.script(answers.error(stat, "invalid_request_error", "bad key planted-key-0123456789 here", **{"x-echo": "planted-key-0123456789"}))
        a = await wire.post(d.port, M().encode())
        leak = "planted-key" in a.body.decode() or any("planted-key" in v for v in a.headers.values())
        say(f"core echo {stat}", not leak, a.body[:80])
        await wire.post(d.admin, b'{"provider":"up"}', "/admin/v1/pool/clear", {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"})
    upstream.script(answers.stream([answers.error_frame("api_error", "key planted-key-0123456789")]))
    a = await wire.post(d.port, M(stream=True).encode()); say("core echo in band first", b"planted-key" not in a.body)
    upstream.script(answers.stream([*answers.start_frames(), answers.text_frame("a"), answers.error_frame("api_error", "key planted-key-0123456789")], pace=0.1))
    a = await wire.post(d.port, M(stream=True).encode()); say("core echo in band late", b"planted-key" not in a.body, a.body[-100:])
    upstream.script(answers.whole(headers={"x-api-key": "planted-key-0123456789"}))
    a = await wire.post(d.port, M().encode()); say("core echo header of 200", a.status == 200 and "planted-key" not in str(a.headers))
    p = json.dumps(await d.pool()); say("core echo pool page", "planted-key" not in p)
    say("core echo log", "planted-key" not in d.log); say("core echo metrics", b"planted-key" not in (await d.admin_get("/metrics")).body)

@ensureDeferred
async def test_streams(start_daemon, upstream):
    d = await start_daemon(provider(upstream, "key-a", "key-b"))
    fr = answers.frames("hello")
    upstream.script(answers.stream([*fr[:-1], fr[-1].rstrip(b"\n") + b"\n"]))
    a = await wire.post(d.port, M(stream=True).encode()); say("core no last empty line (one LF)", a.text == "hello" and b"event: error" not in a.body, a.body[-120:])
    upstream.script(answers.stream([*fr[:-1], fr[-1].rstrip(b"\n")]))
    a = await wire.post(d.port, M(stream=True).encode()); say("core no last empty line (none)", a.text == "hello" and b"event: error" not in a.body, a.body[-120:])
    second = answers.frame({"type": "message_start", "message": answers.message(id="msg_02", content=[], stop_reason=None)})
    upstream.script(answers.stream([*answers.start_frames(), answers.text_frame("x"), second, *answers.frames("whole")[1:]], pace=0.05))
    a = await wire.post(d.port, M(stream=True).encode()); say("core spliced second message", a.events[-1]["type"] == "error", a.events[-1])
    upstream.script(answers.stream([answers.start_frames()[0], *answers.frames("hello")]))
    a = await wire.post(d.port, M(stream=True).encode()); say("core duplicate start harmless", a.events[-1]["type"] == "message_stop")
    upstream.script(answers.stream([b'data: {"error": {"type":"weird_error","message":"their own sentence"}}\n\n']))
    a = await wire.post(d.port, M(stream=True).encode()); say("core typeless error first", b"their own sentence" in a.body, a.body)
    await wire.post(d.admin, b'{"provider":"up"}', "/admin/v1/pool/clear", {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"})
    upstream.script(answers.stream([*answers.start_frames(), answers.text_frame("x"), b'data: {"error": {"type":"weird_error","message":"their own sentence"}}\n\n'], pace=0.05))
    a = await wire.post(d.port, M(stream=True).encode()); say("core typeless error late", b"their own sentence" in a.body and b"weird" in a.body, a.body[-200:])

@ensureDeferred
async def test_hung(start_daemon, upstream):
    d = await start_daemon(provider(upstream, "key-a", "key-b") + "[timeouts]\nfirst_byte = 1\nfirst_byte_whole = 1\n")
    upstream.script_for("key-a", answers.silent()); upstream.script_for("key-b", answers.usual())
    for n in range(8):
        a = await wire.post(d.port, M().encode(), headers={"x-claude-code-session-id": f"s{n}"}); assert a.status == 200
    hits = sum(r.key == "key-a" for r in upstream.requests)
    say("core credential that never answers", hits <= 3, f"{hits} of 8 sessions waited")
    sec = provider(upstream, "key-a", "key-b").replace('name = "key-a"\n', 'name = "key-a"\npriority = 2\n').replace('name = "key-b"\n', 'name = "key-b"\npriority = 1\n')
    d2 = await start_daemon(sec + "[timeouts]\nfirst_byte = 1\nfirst_byte_whole = 1\n")
    upstream.requests.clear()
    for n in range(6): 
        a = await wire.post(d2.port, M().encode()); assert a.status == 200
    hits = sum(r.key == "key-a" for r in upstream.requests)
    say("core never answers, priorities", hits <= 3, f"{hits} of 6")

@ensureDeferred
async def test_names(start_daemon, upstream, tmp_path):
    models = '[[models]]\nname = "claude-opus-4-8[1m]"\nroutes = [{ provider = "up", model = "claude-opus-4-8" }]\n[[models]]\nname="m2"\nroutes=[{provider="up"}]\n'
    cl = '[[clients]]\nname = "c"\nkey = "ck-0123456789"\nmodels = ["claude-opus-4-8[1m]"]\n'
    d = await start_daemon(provider(upstream) + models + cl)
    upstream.script(answers.usual())
    h = {"x-api-key": "ck-0123456789"}
    a = await wire.post(d.port, M(model="claude-opus-4-8[1m]").encode(), headers=h); say("core [1m] routed", a.status == 200 and upstream.requests[-1].json["model"] == "claude-opus-4-8", a.body[:100])
    a = await wire.post(d.port, M(model="claude-opus-4-81").encode(), headers=h); say("core [1m] is no class", a.status in (400, 404), a.status)
    a = await wire.get(d.port, "/v1/models", {**wire.VERSION, **h}); say("core [1m] listed", b"[1m]" in a.body, a.body[:100])
    a = await wire.post(d.port, M().encode(), headers={"x-api-key": "nope"}); say("ops D1 wrong key words", a.status == 401 and "invalid x-api-key" not in a.body.decode(), a.body)
    import hashlib
    say("ops 3.9 digest prefix in log", hashlib.sha256(b"nope").hexdigest()[:8] in d.log, "")
    for end in ("/v1", "/v1/", "/v1/messages", "//"):
        dd = await start_daemon(provider(upstream.url + end))
        a = await wire.post(dd.port, M().encode()); say(f"core base_url {end}", a.status == 200 and upstream.requests[-1].path.startswith("/v1/messages"), (a.status, upstream.requests[-1].path))

@ensureDeferred
async def test_labels(start_daemon, upstream):
    models = '[[models]]\nname = "named"\nroutes = [{ provider = "up" }]\n[[models]]\nname = "*"\nroutes = [{ provider = "up" }]\n'
    d = await start_daemon(provider(upstream) + models)
    upstream.script(answers.usual())
    for n in range(130): await wire.post(d.port, M(model=f"junk-{n}").encode())
    await wire.post(d.port, M(model="named").encode())
    m = (await d.admin_get("/metrics")).body.decode(); say("core named model has its label", 'model="named"' in m)
    await wire.post(d.port, M().encode(), path="/v1/messages/count_tokens")
    a = m
    m2 = (await d.admin_get("/metrics")).body.decode()
    tok = lambda t: sum(float(l.rpartition(" ")[2]) for l in t.splitlines() if l.startswith("claudeproxyd_tokens_total"))
    say("B5 count_tokens no usage", tok(m) == tok(m2), (tok(m), tok(m2)))
    sb = await start_daemon(SANDBOX)
    a = await wire.post(sb.port, M(model="sandbox-status-529").encode())
    say("ops D5 one id", a.headers.get("request-id") == a.json["request_id"], (a.headers.get("request-id"), a.json["request_id"], a.headers.get("x-claudeproxyd-request-id")))
    a = await wire.get(sb.admin, "/"); say("ops D3 admin / redirects", a.status in (302, 303, 307, 308), (a.status, a.headers.get("location")))
    say("ops D3 banner", "/admin/" in sb.log)
    say("ops D6 plugin cache line", "dropin" not in sb.log, "")

@ensureDeferred
async def test_all_out(start_daemon, upstream):
    for n in range(4):
        d = await start_daemon(provider(upstream, "key-a", "key-b"))
        upstream.script_for("key-a", answers.error(429, "rate_limit_error", "slow", retry_after="600"))
        upstream.script_for("key-b", answers.error(402, "billing_error", "no credit"))
        got = [(await wire.post(d.port, M().encode())).status for _ in range(3)]
        say("B6 all out: quota first", set(got) == {429}, got)

@ensureDeferred
async def test_files(start_daemon, upstream):
    d = await start_daemon(provider(upstream, "key-a", "key-b") + "[pool]\naffinity = false\n")
    upstream.script_for("key-a", answers.error(404, "not_found_error", "File file_011 not found")); upstream.script_for("key-b", answers.usual())
    got = [(await wire.post(d.port, M(more={"container": "x"}).encode())).status for _ in range(4)]
    say("core file of one account", set(got) == {200}, got)
    ref = b'{"model":"claude-opus-5-5","max_tokens":9,"messages":[{"role":"user","content":"\\ud99c"}]}'
    upstream.script_for("key-a", answers.usual())
    a = await wire.post(d.port, ref); say("core lone surrogate in request passes", a.status == 200 and upstream.requests[-1].body == ref, a.body[:100])
    
@ensureDeferred
async def test_gemini_rows(start_daemon, gemini):
    G = '[[models]]\nname = "*"\nroutes = [{ provider = "up", model = "%s" }]\n'
    async def d(model, more="", kind="gemini", keys=("key-a","key-b")):
        return await start_daemon(G % model + provider(gemini, *keys, kind=kind) + more)
    dd = await d("gemini-3.8-flash")
    gemini.script(google.usual())
    tool = [{"name": "t", "input_schema": {"type": "object"}}]
    msgs = [{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"tool_use","id":"toolu_1","name":"t","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"r"},{"type":"text","text":"typed"}]}]
    a = await wire.post(dd.port, M(more={"messages": msgs, "tools": tool}).encode())
    cs = gemini.requests[-1].json["contents"]
    say("gem 1 results alone", a.status == 200 and [list(p) for p in [c["parts"] and c["parts"][0] for c in cs[-2:]]] and "functionResponse" in cs[-2]["parts"][0] and len(cs[-2]["parts"]) == 1 and cs[-1]["parts"][0].get("text") == "typed", cs[-2:])
    rows = {"gem 2 free tier": google.failure(400, "FAILED_PRECONDITION", "Gemini API free tier is not available in your country. Please enable billing on your project in Google AI Studio."),
            "gem 3 prepaid": google.failure(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing."),
            "gem 7 no longer": google.failure(404, "NOT_FOUND", "This model models/gemini-2.5-pro is no longer available to new users.")}
    for row, f in rows.items():
        dd = await d("gemini-2.5-pro")
        gemini.script_for("key-a", answers.whole(json.dumps(f).encode(), f["error"]["code"])); gemini.script_for("key-b", google.usual())
        gemini.requests.clear()
        got = [(await wire.post(dd.port, M().encode(), headers={"x-claude-code-session-id": str(n)})).status for n in range(4)]
        say(row, set(got) == {200} and sum(r.key == "key-a" for r in gemini.requests) == 1, (got, [r.key for r in gemini.requests]))
    gemini._by_key.clear()
    dd = await d("gemini-2.5-pro", keys=("key-a",))
    for name, ans in {"no part": {"candidates":[{"content":{"role":"model"},"finishReason":"STOP"}]}, "empty text": google.said("", finish="STOP")}.items():
        gemini.requests.clear(); gemini.script(google.whole(ans), google.usual())
        a = await wire.post(dd.port, M().encode()); say(f"gem 5 empty STOP {name}", a.status == 200 and len(gemini.requests) == 2 and a.json["content"], (a.status, len(gemini.requests)))
    r = google.said("hi", finish="STOP"); r["usageMetadata"] = {"promptTokenCount":100,"candidatesTokenCount":50,"thoughtsTokenCount":40,"totalTokenCount":150}
    gemini.script(google.whole(r)); a = await wire.post(dd.port, M().encode()); say("gem 6 thoughts counted once", a.json["usage"]["output_tokens"] == 50, a.json["usage"])
    gemini.script(google.usual())
    im = [{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}},{"type":"document","source":{"type":"url","url":"https://example.com/a.pdf"}}]}]
    a = await wire.post(dd.port, M(more={"messages": im}).encode()); say("gem 8 url", a.status == 200 and json.dumps(gemini.requests[-1].json).count("fileUri") == 2, a.body[:200])
    a = await wire.post(dd.port, M(max_tokens=256).encode()); say("gem 14 no thinking", "thinkingConfig" in json.dumps(gemini.requests[-1].json), gemini.requests[-1].json.get("generationConfig"))
    tup = {"type":"object","properties":{"a":{"type":"array","items":[{"type":"string"},{"type":"number"}]}}}
    a = await wire.post(dd.port, M(more={"tools":[{"name":"t","input_schema":tup}]}).encode()); say("gem 11 tuples", "prefixItems" in json.dumps(gemini.requests[-1].json), json.dumps(gemini.requests[-1].json.get("tools"))[:200])
    pic = {"candidates":[{"content":{"role":"model","parts":[{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]},"finishReason":"STOP"}],"usageMetadata":google.COUNTS}
    gemini.script(google.whole(pic)); a = await wire.post(dd.port, M().encode()); say("gem 13 picture told", a.status == 200 and a.json["content"], a.json.get("content"))
    gemini.script(google.usual())
    dd = await d("gemma-3-27b-it", keys=("key-a",)); a = await wire.post(dd.port, M(more={"system":"sys words"}).encode()); say("gem 9 gemma system", "systemInstruction" not in gemini.requests[-1].json and "sys words" in json.dumps(gemini.requests[-1].json["contents"]), gemini.requests[-1].json)
    dd = await d("gemini-2.0-flash", keys=("key-a",))
    for k in (0, 100, 500):
        a = await wire.post(dd.port, M(more={"top_k": k}).encode()); tk = gemini.requests[-1].json.get("generationConfig", {}).get("topK"); say(f"gem 10 top_k {k}", a.status == 200 and (tk is None or 1 <= tk <= 40), (a.status, tk))
    sec = provider(gemini, "token-a", kind="vertex").replace("api_key =", "bearer_token =") + 'project = "p"\nlocation = "us-east5"\n'
    dd = await start_daemon('[[models]]\nname = "*"\nroutes = [{ provider = "up", model = "claude-opus-4-6" }]\n' + sec)
    ms = [{"role":"user","content":"a"},{"role":"system","content":"s"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]
    gemini.script(answers.usual()); a = await wire.post(dd.port, M(more={"messages": ms}).encode()); say("gem 4 system turn on Vertex", [m["role"] for m in gemini.requests[-1].json["messages"]].count("system") == 0, gemini.requests[-1].json["messages"])
