#!/usr/bin/env python3
"""Recomputes all that docs/measurement.md defines from a compose.lock, and compares it with the head of the lock and
with files of vectors: recompute.py COMPOSE.LOCK [VECTORS.JSON ...]. Exit code 0: all agrees; 1: not; 2: unusable."""
import hashlib, json, sys
def refuse(what):
    raise ValueError(what)
def members(pairs):
    return dict(pairs) if len(dict(pairs)) == len(pairs) else refuse("a member is there twice")

def integer(digits):
    return int(digits) if abs(int(digits)) < 2**53 else refuse(f"{digits} is 2^53 or more")

def read(text):
    return json.loads(text, object_pairs_hook=members, parse_int=integer, parse_float=refuse, parse_constant=refuse)

def sort(value):  # RFC 8785, section 3.2.3: by UTF-16 code units, which is not the order of code points
    if isinstance(value, dict):
        return {name: sort(value[name]) for name in sorted(value, key=lambda name: name.encode("utf-16-be"))}
    return [sort(item) for item in value] if isinstance(value, list) else value

def canonical(value, **form):
    return json.dumps(sort(value), ensure_ascii=False, **(form or {"separators": (",", ":")})).encode("utf-8")

def digest(*parts):
    return hashlib.sha384(b"".join(parts)).digest()

def node(leaves):  # RFC 6962, section 2.1: a left half of the largest power of two smaller than their number
    half = 1 << (len(leaves) - 1).bit_length() - 1 if len(leaves) > 1 else 0
    return digest(b"\x01", node(leaves[:half])[0], node(leaves[half:])[0]) if half else leaves[0], half

def path(leaves, index):  # RFC 6962, section 2.1.1
    half = node(leaves)[1]
    if index < half:
        return path(leaves[:half], index) + [node(leaves[half:])[0]]
    return path(leaves[half:], index - half) + [node(leaves[:half])[0]] if half else []

def compute(lock):
    agents = sort(lock["agents"])
    agents = {name: digest(b"casemate:measurement/1\0", canonical(agents[name])) for name in agents}
    rest = {name: value for name, value in lock.items() if name not in ("about", "agents")}
    leaves = [digest(b"\0casemate:global/1\0", canonical(rest))]
    leaves += [digest(b"\0casemate:agent/1\0", name.encode(), b"\0", agents[name]) for name in agents]
    text = lambda value: "sha384:" + value.hex()
    proof = lambda index: {"index": index, "size": len(leaves), "path": [*map(text, path(leaves, index))]}
    return {"composition": text(node(leaves)[0]), "measurements": {name: text(agents[name]) for name in agents},
            "leaves": [*map(text, leaves)], "proofs": {name: proof(index) for index, name in enumerate(agents, 1)}}

try:
    lock, *vectors = [(file, open(file, "rb").read().decode("utf-8")) for file in sys.argv[1:]]
    value, computed = read(lock[1]), compute(read(lock[1]))
    known = {"about", "agents", "project", "version", "volumes"}, {"composition", "measurements", "note"}, 1
    form = (set(value), set(value["about"]), value["version"]) == known
    form = form and canonical(value, indent=2).decode("utf-8") + "\n" == lock[1]
    wrong = [] if form else [f"{lock[0]}: not in the form that `casemate lock` writes"]
    stated = [(lock[0], {"composition", "measurements"}, value["about"])]
    for file, names, values in stated + [(file, computed.keys(), read(text)) for file, text in vectors]:
        wrong += [f"{file}: {name} is not {computed[name]}" for name in sorted(names) if values[name] != computed[name]]
except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
    sys.exit(print(f"unusable: {error!r}", file=sys.stderr) or 2)
sys.exit(print("\n".join(wrong) or f"composition {computed['composition']}: all agrees") or bool(wrong))
