"""JSON Schemas in the subset of OpenAPI 3.0 that the Gemini API's ``parameters`` takes.

It refuses a whole request for one word outside the subset. So what can be said there is, and the rest is said in words,
in the description. Sources: ``Schema`` in the API's reference, google-genai's ``types.Schema``, and what the API, and
Vertex AI, are known to answer 400 to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeGuard

import msgspec

from claudeproxyd.translate.references import JSONSchema, inlined, merged, without_all_of

#: Characters of a value that is described in words.
MAX_VALUE_CHARS = 300

#: Which type a schema without one has, by the first of these keywords that it uses.
_IMPLIED = (
    ("object", ("properties", "required", "additionalProperties", "patternProperties", "minProperties")),
    ("array", ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains")),
    ("string", ("pattern", "minLength", "maxLength", "format")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
)
_TYPE_OF = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
#: What the API has no word for, or ignores, in ours. All maxItems of a request together may not pass some hundreds.
_SENTENCES = {
    "default": "By default {}.",
    "examples": "For example {}.",
    "example": "For example {}.",
    "exclusiveMinimum": "More than {}.",
    "exclusiveMaximum": "Less than {}.",
    "multipleOf": "A multiple of {}.",
    "maxItems": "At most {} items.",
    "uniqueItems": "No item twice.",
    "contains": "One item at least is {}.",
    "contentEncoding": "Encoded as {}.",
    "contentMediaType": "Holds {}.",
    "dependentRequired": "What requires what: {}.",
    "propertyNames": "Names are {}.",
    "not": "Not {}.",
}
#: Formats that the API knows; of any other it makes a 400.
_FORMATS = {"string": ("date-time",), "number": ("float", "double"), "integer": ("int32", "int64")}
#: The API refuses objects without properties, so one stands for all names.
_ANY_NAME = "key"
_INT64 = 2**63 - 1

_encode = msgspec.json.Encoder().encode


def clean(schema: object) -> JSONSchema:
    """Return a function's *schema* for ``parameters``: an object's; {} where there is no property.

    Any JSON value gives something that the API takes; see the module for what becomes of the rest.
    """
    given = _folded(_collapsed(inlined(schema)))
    if not _properties(given) and not isinstance(given.get("additionalProperties"), dict):
        return {}
    return _described(_object(given), given)


def _clean(given: object, expected: Iterable[str] = ()) -> JSONSchema:
    """Return a schema within another: one with a type, or with nothing but ``anyOf``.

    *expected*: its types if it has none.
    """
    schema = _collapsed(given)
    alternatives, nullable = _alternatives(schema)
    types, null = _types(schema)
    if alternatives and not schema.keys() & {"properties", "items", "prefixItems", "enum", "const"}:
        made = [_clean(each, types or expected) for each in alternatives]
    else:
        schema = _folded(schema)
        made = [_WRITERS[name](schema) for name in types or _implied(schema) or expected]
    if not made:
        made = [{"type": "string"}] if null or nullable else _anything()
    members = _members(made)
    # Vertex AI takes nothing beside anyOf: what is said of all is said of the first.
    first = members[0]
    if nullable or null or schema.get("nullable") is True or None in _values(schema):
        first["nullable"] = True
    _described(first, schema)
    return _union(members)


def _collapsed(given: object) -> JSONSchema:
    """Return a schema with ``allOf`` merged into it, and with what holds under a condition as optional properties."""
    schema: JSONSchema = without_all_of(given) if isinstance(given, dict) else {}
    dependent = schema.get("dependentSchemas")
    conditional = [schema.get("then"), schema.get("else"), *(dependent.values() if isinstance(dependent, dict) else ())]
    return _with_properties(schema, [part for part in conditional if isinstance(part, dict)])


def _with_properties(schema: JSONSchema, others: list[JSONSchema]) -> JSONSchema:
    """Return *schema* with the properties of *others* besides."""
    more = [{"properties": properties} for properties in map(_properties, others) if properties]
    return merged(schema, *more) if more else schema


def _alternatives(schema: JSONSchema) -> tuple[list[object], bool]:
    """Return the schemas of ``anyOf``, or else of ``oneOf``, but for null; and whether null is among them."""
    given = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(given, list):
        return [], False
    possible = [each for each in given if each is not False]
    others = [each for each in possible if not (isinstance(each, dict) and _is_null(each))]
    return others, len(others) < len(possible)


def _is_null(schema: JSONSchema) -> bool:
    return _types(schema) == ([], True) or _values(schema) == [None]


def _folded(schema: JSONSchema) -> JSONSchema:
    """Return a schema with the properties of all alternatives; what all require is required, the rest is described."""
    alternatives = [_folded(_collapsed(each)) for each in _alternatives(schema)[0]]
    schema = _with_properties(schema, alternatives)
    requirements = [dict.fromkeys(_texts(each.get("required"))) for each in alternatives]
    if not any(requirements):
        return schema
    always = dict.fromkeys(name for name in requirements[0] if all(name in others for others in requirements))
    choices = [", ".join(name for name in names if name not in always) for names in requirements]
    if all(choices):
        schema = {**schema, "description": _text(schema, [f"Give {_cut('; or '.join(choices))}."])}
    return merged(schema, {"required": list(always)})


def _types(schema: JSONSchema) -> tuple[list[str], bool]:
    """Return the types that *schema* names, and whether null is one."""
    given = schema.get("type")
    names = [name.lower() for name in (given if isinstance(given, list) else [given]) if isinstance(name, str)]
    return [name for name in dict.fromkeys(names) if name in _WRITERS], "null" in names


def _implied(schema: JSONSchema) -> list[str]:
    """Return the types that *schema* must mean."""
    values = [value for value in _values(schema) if value is not None]
    if values:
        return list(dict.fromkeys(_TYPE_OF[type(value)] for value in values))
    return [name for name, keywords in _IMPLIED if schema.keys() & set(keywords)][:1]


def _values(schema: JSONSchema) -> list[object]:
    """Return the only values that are allowed; [] if all are."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else []


def _union(members: list[JSONSchema]) -> JSONSchema:
    """Return a schema that any one of these fits."""
    return members[0] if len(members) == 1 else {"anyOf": members}


def _members(made: list[JSONSchema]) -> list[JSONSchema]:
    """Return the alternatives of a union: no union within another, no doubles, and texts in one list."""
    if len(made) == 1:
        return list(made[0].get("anyOf", made))
    members = list({_encode(member): member for each in made for member in each.get("anyOf", [each])}.values())
    if len(members) > 1 and all(member.keys() == {"type", "enum"} for member in members):
        texts = dict.fromkeys(text for member in members for text in member["enum"])
        return [{"type": "string", "enum": list(texts)}]
    return members


def _anything() -> list[JSONSchema]:
    """Return a schema of any value. Vertex AI refuses a schema that has no type."""
    text = {"type": "string"}
    return [
        {"type": "string"},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "object", "properties": {_ANY_NAME: text}},
        {"type": "array", "items": text},
    ]


# -- one for each type: what of a schema the API can say


def _string(schema: JSONSchema) -> JSONSchema:
    made: JSONSchema = {"type": "string"}
    if texts := [text for text in _texts(_values(schema)) if text]:
        made["enum"] = texts
    elif isinstance(schema.get("pattern"), str):
        made["pattern"] = schema["pattern"]
    return made | _format(schema, "string") | _counts(schema, "minLength", "maxLength")


def _number(schema: JSONSchema) -> JSONSchema:
    return {"type": "number"} | _format(schema, "number") | _bounds(schema, whole=False)


def _integer(schema: JSONSchema) -> JSONSchema:
    return {"type": "integer"} | _format(schema, "integer") | _bounds(schema, whole=True)


def _boolean(schema: JSONSchema) -> JSONSchema:
    return {"type": "boolean"}


def _array(schema: JSONSchema) -> JSONSchema:
    items = schema.get("items")
    leading = schema.get("prefixItems", items)
    if not isinstance(leading, list):
        return {"type": "array", "items": _clean(items)} | _counts(schema, "minItems")
    further = schema.get("additionalItems") if leading is items else items
    members = [_clean(each) for each in (*leading, *([further] if isinstance(further, dict) else []))]
    return {"type": "array", "items": _union(_members(members or _anything()))} | _counts(schema, "minItems")


def _object(schema: JSONSchema) -> JSONSchema:
    given = _properties(schema)
    required = _texts(schema.get("required"))
    required += [name for name, each in given.items() if isinstance(each, dict) and each.get("required") is True]
    made: JSONSchema = {"type": "object"}
    made["properties"] = {name: _clean(each) for name, each in given.items()} or {_ANY_NAME: _member(schema)}
    if kept := [name for name in dict.fromkeys(required) if name in given]:
        made["required"] = kept
    return made | _counts(schema, "minProperties", "maxProperties")


def _properties(schema: JSONSchema) -> JSONSchema:
    """Return the properties."""
    given = schema.get("properties")
    return {name: each for name, each in given.items() if each is not False} if isinstance(given, dict) else {}


def _member(schema: JSONSchema) -> JSONSchema:
    """Return a schema of any member of an object whose members have no names of their own."""
    by_pattern = schema.get("patternProperties")
    given = (
        next(iter(by_pattern.values()), None) if isinstance(by_pattern, dict) else schema.get("additionalProperties")
    )
    return _clean({**(given if isinstance(given, dict) else {}), "title": "Any members, of whatever names."})


_WRITERS: dict[str, Callable[[JSONSchema], JSONSchema]] = {
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "array": _array,
    "object": _object,
}


def _texts(values: object) -> list[str]:
    return list(dict.fromkeys(each for each in values if isinstance(each, str))) if isinstance(values, list) else []


def _format(schema: JSONSchema, type_: str) -> JSONSchema:
    return {"format": schema["format"]} if schema.get("format") in _FORMATS[type_] else {}


def _counts(schema: JSONSchema, *keywords: str) -> JSONSchema:
    """Return the bounds that are counts, also where they are written as 3.0."""
    given = {keyword: schema.get(keyword) for keyword in keywords}
    return {keyword: int(value) for keyword, value in given.items() if _is_number(value) and 0 <= value == int(value)}


def _bounds(schema: JSONSchema, whole: bool) -> JSONSchema:
    """Return the least and the greatest; of *whole* numbers also where the bound itself is excluded."""
    values = [value for value in _values(schema) if _is_number(value)]
    if values:
        return {"minimum": min(values), "maximum": max(values)}
    made = {keyword: schema[keyword] for keyword in ("minimum", "maximum") if _is_number(schema.get(keyword))}
    if _is_number(least := schema.get("exclusiveMinimum")):
        made.setdefault("minimum", math.floor(least) + 1 if whole else least)
    if _is_number(greatest := schema.get("exclusiveMaximum")):
        made.setdefault("maximum", math.ceil(greatest) - 1 if whole else greatest)
    return made


def _is_number(value: object) -> TypeGuard[int | float]:
    """Whether the API can read it: one that no 64 bits hold, it cannot."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _INT64


# -- in words


def _described(made: JSONSchema, schema: JSONSchema) -> JSONSchema:
    """Return *made* with what *schema* says in words, ahead of its own, and what can be said in words alone."""
    sentences = _sentences(schema, *_SENTENCES)
    values = _values(schema)
    kept = set(made.get("enum", ()))
    if any(value is not None and not (isinstance(value, str) and value in kept) for value in values):
        sentences.append(f"{'One of' if len(values) > 1 else 'Always'} {_in_words(values)}.")
    if isinstance(schema.get("format"), str) and "format" not in made:
        sentences.append(f"Format: {schema['format']}.")
    leading = schema.get("prefixItems", schema.get("items"))
    if isinstance(leading, list):
        types = [_types(each)[0] if isinstance(each, dict) else [] for each in leading]
        sentences.append(f"In this order: {', '.join(' or '.join(names) or 'any' for names in types)}.")
    if description := _text(schema, [*sentences, made.get("description", "")]):
        made["description"] = description
    return made


def _sentences(schema: JSONSchema, *keywords: str) -> list[str]:
    described = []
    for keyword in keywords:
        value = schema.get(keyword)
        # The older drafts' exclusiveMinimum is a boolean beside minimum.
        is_flag = isinstance(value, bool) and keyword not in ("default", "example")
        if value is not None and (not is_flag or (value and keyword == "uniqueItems")):
            described.append(_SENTENCES[keyword].format(_in_words(value)))
    return described


def _in_words(value: object) -> str:
    """Return a value in words: JSON, a list without its brackets, and no more of it than a reader wants."""
    return _cut(
        ", ".join(_encode(each).decode() for each in value) if isinstance(value, list) else _encode(value).decode()
    )


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + " …"


def _text(schema: JSONSchema, sentences: Iterable[str]) -> str:
    """Return the description of *schema*, or its title where it has none, and these."""
    given = schema.get("description") or schema.get("title")
    return " ".join(filter(None, (given if isinstance(given, str) else "", *sentences)))
