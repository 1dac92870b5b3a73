"""Thrift's compact protocol, as much of it as Parquet's page headers and footers use.

A struct is a list of (field, kind, value); what is read and written again gives the same bytes. Source: the Thrift
compact protocol specification (apache/thrift, doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12
INTEGERS = (I16, I32, I64)

Field = tuple[int, int, Any]


class Reader:
    """Reads values from the front of `data`; `place` is where the next one begins.

    Bytes that are no such value raise ValueError or IndexError.
    """

    def __init__(self, data: bytes | memoryview, place: int = 0) -> None:
        self.data, self.place = data, place

    def varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self.data[self.place]
            self.place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError("a number of more than 64 bits")

    def integer(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.place:
            raise ValueError("the data end within a value")
        self.place += size
        return bytes(self.data[self.place - size : self.place])

    def value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind in INTEGERS:
            return self.integer()
        if kind == BINARY:
            return self.take(self.varint())
        if kind in (BYTE, DOUBLE):
            return self.take(1 if kind == BYTE else 8)
        if kind in (LIST, SET):
            head = self.take(1)[0]
            inner, count = head & 15, self.varint() if head >> 4 == 15 else head >> 4
            return inner, [self.take(1) if inner in (TRUE, FALSE) else self.value(inner) for _ in range(count)]
        if kind == STRUCT:
            return self.struct()
        raise ValueError(f"the kind {kind}")

    def struct(self) -> list[Field]:
        fields: list[Field] = []
        number = 0
        while head := self.take(1)[0]:
            number = number + (head >> 4) if head >> 4 else self.integer()
            fields.append((number, head & 15, self.value(head & 15)))
        return fields


def varint(value: int) -> bytes:
    """A number that is not negative."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def struct(fields: list[Field]) -> bytes:
    """The bytes of a struct."""
    out = bytearray()
    last = 0
    for number, given, value in fields:
        kind = (TRUE if value else FALSE) if given in (TRUE, FALSE) else given
        near = 0 < number - last < 16
        out += bytes([(number - last) << 4 | kind]) if near else bytes([kind]) + _integer(number)
        out += b"" if kind in (TRUE, FALSE) else _value(kind, value)
        last = number
    return bytes(out) + b"\0"


def _integer(value: int) -> bytes:
    return varint((value << 1) ^ (value >> 63))


def _value(kind: int, value: Any) -> bytes:
    if kind in INTEGERS:
        return _integer(value)
    if kind == BINARY:
        return varint(len(value)) + bytes(value)
    if kind in (LIST, SET):
        inner, items = value
        head = bytes([len(items) << 4 | inner]) if len(items) < 15 else bytes([0xF0 | inner]) + varint(len(items))
        return head + b"".join(item if inner in (TRUE, FALSE) else _value(inner, item) for item in items)
    if kind == STRUCT:
        return struct(value)
    return bytes(value)  # BYTE, DOUBLE: as they were read


def get(fields: list[Field], number: int) -> Any:
    """The value of a field; KeyError when it is not there."""
    for found, _, value in fields:
        if found == number:
            return value
    raise KeyError(number)


def put(fields: list[Field], changes: dict[int, Any]) -> list[Field]:
    """The struct with other values in some of its fields; fields that it does not have stay away."""
    return [(number, kind, changes.get(number, value)) for number, kind, value in fields]
