#!/usr/bin/env python3
"""Writes 500 records of values that are hard to keep, as NDJSON.

The text of a value matters as much as the value, so the lines are put together as
text: 1E5, 1e+5 and 100000.0 are three different shapes of one float. The same
records come out every time. Every line is ASCII, UTF-8 or escapes; no object has
two equal keys; nothing nests deeper than 64, no integer is outside of int64 and
uint64, no float overflows a double.

    hard_values.py [FILE]        (standard output without FILE)
"""
import json
import random
import sys

COUNT = 500


def integers():
    """Integers around the places where doubles and 64 bits end."""
    found = [0, 1, -1, 9, 10, 99, 127, 128, 255, 256, -127, -128, -129, 10**18]
    for bits in (15, 16, 31, 32, 52, 53, 54, 62, 63):
        for near in range(-2, 3):
            found += [2**bits + near, -(2**bits) + near]
    found += [2**64 - 1, 2**64 - 2, 2**64 - 1025, 10**19, 12345678901234567890]
    keep = [n for n in found if -(2**63) <= n < 2**64]
    return [str(n) for n in dict.fromkeys(keep)] + ["-0"]


def floats():
    """Shapes of floats: sign, point and exponent in every notation."""
    return """
        0.0 -0.0 0e0 -0e0 0E+0 0.0e-0 -0.0E-5 0.000 1.0 -1.0 1.00 10.0 0.1 -0.1 0.10
        1e0 1E0 1e5 1E5 1e+5 1E+5 1e-5 1E-5 1e05 1e+005 1e-007 1.5e3 -1.5E-3 100000.0
        0.3 0.30000000000000004 0.1e1 12.5e-1 2.5 3.14159 2.718281828459045
        1e15 1e16 1e17 1e21 1e22 1e23 1e-6 1e-7 123456789.123456789 0.000001 0.0000001
        9007199254740991.0 9007199254740992.0 9007199254740993.0 9007199254740993e0
        9223372036854775807.0 9223372036854775808.0 -9223372036854775808.0
        18446744073709551615.0 18446744073709551616.0 1.8446744073709552e19
        1e100 -1e100 1e308 1.7976931348623157e308 -1.7976931348623157E+308
        2.2250738585072014e-308 2.225073858507201e-308 4.9e-324 5e-324 -5e-324 1e-400
        1.0000000000000002 1.00000000000000011102230246251565404236316680908203125
        0.1000000000000000055511151231257827021181583404541015625 179769313486231570e291
        5.0e-1
    """.split()


def strings():
    """Strings as they stand in JSON, quotes included."""
    plain = ["", " ", "a", "null", "true", "0", "-0.0", "1e5", "{}", "[]", "a,b", "a:b",
             "Grüße", "naïve", "日本語", "Ελλάδα", "עברית", "\u2028\u2029", "\ufeff",
             "\u007f", "\u0080", "\u07ff", "\u0800", "\uffff", "😀", "𝄞 clef",
             "👩‍👩‍👧‍👦", "\U0010ffff", "e\u0301", "x" * 1000, "é" * 4096, "😀" * 1024,
             "long " * 2000, "\\", "\"", "\\\"", "\\\\", "a\tb", "a\nb", "\r\n"]
    found = [json.dumps(text, ensure_ascii=False) for text in plain]
    found += [json.dumps(text) for text in plain if not text.isascii()]
    return found + [
        r'"\u0000"', r'"a\u0000b"', r'"\u0000\u0001\u001f"', r'"\/"', r'"\\/"',
        r'"http:\/\/x\/"', r'"\b\f\n\r\t"', r'"\ud83d\ude00"', r'"\uD83D\uDE00!"',
        r'"\ud834\udd1e\u00e9"', r'"\u0041\u0062"', r'"\u0022"', r'"\u005c"',
        r'"\u005C\u0022"', r'"\u002f"', r'"\"quoted\""', r'"\\\""', r'"\\\\\""',
        r'"\\u0041"', r'"\\n"', r'"tab\u0009"', r'"\u007f\u0080"', r'"\uffff\ufffd"',
        r'"\udbff\udfff"', r'"\ud800\udc00"', r'"' + r"\u00e9" * 500 + '"',
        '"' + r"\\" * 500 + '"', '"' + r"\"" * 501 + '"',
    ]


def nests():
    """Arrays and objects, empty ones above all."""
    deep = 60
    return [
        "[]", "{}", "[[]]", "[{}]", '{"a":[]}', '{"a":{}}', "[[],[]]", "[{},{}]",
        "[[],{}]", '{"a":{},"b":[]}', "[[[[]]]]", '{"a":{"a":{"a":{}}}}', "[null]",
        "[null,null]", '{"a":null}', "[[null],[]]", "[0]", "[-0.0]", "[1,1.0,1e0]",
        "[true,false,null]", '[1,"1",1.0]', "[ ]", "{ }", '[ 1 , 2 ]', '{ "a" : 1 }',
        '{"":0}', '{"":{"":{}}}', '{"1":1,"01":2,"1.0":3}', '{"a":1,"A":2}',
        '{"a.b":1,"a":{"b":2}}', '{"$raw":1,"$headers":{"x":1}}', r'{"\u0061b":1}',
        r'{"\"":1,"\\":2}', r'{"\ud83d\ude00":1}', '{"é":1,"e\u0301":2}', '{"😀":[]}',
        r'{"\u0000":1,"\u0000\u0000":2}', '{"null":null,"true":true,"false":false}',
        '{"nil":1,"end":2,"function":3}', "[" * deep + "]" * deep,
        '{"a":' * deep + "1" + "}" * deep, '[{"a":' * 30 + "[]" + "}]" * 30,
        "[" + ",".join(["[]", "{}"] * 200) + "]",
        "[" + ",".join(str(n) for n in range(1000)) + "]",
        "{" + ",".join('"k%d":%d' % (n, n) for n in range(300)) + "}",
        "[9007199254740993,18446744073709551615,-9223372036854775808]",
    ]


def mixed(chance, depth=0):
    """A value by chance, made of the ones above."""
    kind = chance.randrange(10 if depth < 4 else 7)
    if kind < 2:
        return chance.choice(integers())
    if kind < 4:
        return chance.choice(floats())
    if kind < 6:
        return chance.choice([text for text in strings() if len(text) < 100])
    if kind < 7:
        return chance.choice(["null", "true", "false", "[]", "{}"])
    count = chance.randrange(5)
    values = [mixed(chance, depth + 1) for _ in range(count)]
    if kind < 8:
        return "[" + chance.choice([",", ", ", " , "]).join(values) + "]"
    colon = chance.choice([":", ": ", " : "])
    return "{" + ",".join('"k%d"%s%s' % (n, colon, value)
                          for n, value in enumerate(values)) + "}"


def lines():
    """The 500 records, each the text of one line."""
    chance = random.Random(20150517)
    found = []
    for kind, values in (("int", integers()), ("float", floats()),
                         ("string", strings()), ("nest", nests()),
                         ("word", ["null", "true", "false"])):
        found += [(kind, value) for value in values]
    while len(found) < COUNT:
        found.append(("mixed", mixed(chance)))
    shapes = ('{"id":%d,"kind":"%s","value":%s}', '{"id": %d, "kind": "%s", "value": %s}',
              '{ "id" : %d ,"kind" : "%s","value":%s, "after":null }',
              '{"id":%d,"kind":"%s","value":%s,"list":[],"map":{},"last":-0.0}')
    return [shapes[number % len(shapes)] % (number, kind, value)
            for number, (kind, value) in enumerate(found[:COUNT])]


def write(path):
    """Writes the file and returns the number of records."""
    found = lines()
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in found)
    return len(found)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write(sys.argv[1])
    else:
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
        sys.stdout.writelines(line + "\n" for line in lines())
