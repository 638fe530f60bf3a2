"""Builds a SentencePiece `precompiled_charsmap`: a Darts double array over byte strings, and the
replacements it points to. Small maps only: the search for free places is the plain one."""
import struct


def _double_array(keys):
    root = {}
    for key, value in keys.items():
        node = root
        for byte in key:
            node = node.setdefault(byte, {})
        node[-1] = value
    units, taken, bases = {}, {0}, set()
    queue, lowest = [(root, 0, 0)], 1
    while queue:
        node, position, label = queue.pop(0)
        children = sorted(byte for byte in node if byte != -1)
        labels = ([0] if -1 in node else []) + children
        base = lowest
        while base in bases or any(base ^ byte in taken for byte in labels):
            base += 1
        while lowest in taken and lowest in bases:
            lowest += 1
        offset = base ^ position
        if offset >= 1 << 21:
            raise ValueError("the map is too large for this builder")
        bases.add(base)
        taken.update(base ^ byte for byte in labels)
        units[position] = offset << 10 | label | (1 << 8 if -1 in node else 0)
        if -1 in node:
            units[base] = node[-1] | 1 << 31
        queue += [(node[byte], base ^ byte, byte) for byte in children]
    count = (max(max(units), max(base | 255 for base in bases)) | 255) + 1
    return [units.get(i, 0) for i in range(count)]


def charsmap(replacements):
    """{bytes: bytes} -> the binary form (before base64)."""
    blob, keys = b"", {}
    for key, value in replacements.items():
        keys[key] = len(blob)
        blob += value + b"\0"
    units = _double_array(keys)
    return struct.pack("<I", 4 * len(units)) + struct.pack("<%dI" % len(units), *units) + blob
