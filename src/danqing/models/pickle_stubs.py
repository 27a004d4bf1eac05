"""An interpreter of pickles that knows shapes only: it imports nothing, calls nothing and allocates no tensor."""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from danqing.spec.errors import BadFileError
from danqing.spec.files import TensorInfo

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
    "Float8_e4m3fnStorage": "float8_e4m3fn",
    "Float8_e5m2Storage": "float8_e5m2",
}
_DTYPES = frozenset(_STORAGES.values()) | {"float8_e4m3fn", "float8_e5m2", "half", "float", "long", "double", "int"}
# Where _rebuild_… has the storage, the size and, in version 3, the number format among its arguments.
_REBUILD = {"_rebuild_tensor": (0, 2, None), "_rebuild_tensor_v2": (0, 2, None), "_rebuild_tensor_v3": (0, 2, 6)}
_PLAIN = {
    ("collections", "OrderedDict"): dict,
    ("collections", "defaultdict"): dict,
    ("builtins", "dict"): dict,
    ("__builtin__", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "tuple"): tuple,
    ("torch", "Size"): tuple,
}
# Names that published checkpoints carry beside their weights. They become empty stubs.
_INERT = {
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("builtins", "bytearray"),
    ("builtins", "complex"),
    ("builtins", "slice"),
    ("__builtin__", "set"),
    ("_codecs", "encode"),
    ("argparse", "Namespace"),
    ("collections", "Counter"),
    ("datetime", "datetime"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
    ("pytorch_lightning.callbacks", "ModelCheckpoint"),
    ("pytorch_lightning.utilities.parsing", "AttributeDict"),
    ("torch", "device"),
    ("torch", "Tensor"),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"),
    ("torch.nn.modules.container", "ParameterDict"),
    ("torch.nn.modules.container", "ParameterList"),
    ("torch.nn.parameter", "Parameter"),
    ("torch.serialization", "_get_layout"),
    ("torch.torch_version", "TorchVersion"),
}
_LONG_LIMIT_BYTES = 64


class _DamagedError(ValueError):
    """The opcodes make no sense."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor without its numbers."""

    info: TensorInfo


@dataclass(frozen=True, slots=True)
class _Global:
    """A class or function that was named, not imported."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: str


@dataclass(slots=True)
class Stub:
    """An object of a class that is known by name only.

    Attributes:
        of: Its class.
        state: What BUILD would have given it.
        items: What was put into it as if it were a dictionary.
    """

    of: _Global
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict[Any, Any])

    def content(self) -> Any:
        """The parameters of a ParameterDict, the attributes of a Namespace, else what was put in."""
        state = cast("dict[Any, Any]", self.state) if isinstance(self.state, dict) else {}
        inner: Any = state.get("_parameters") or state
        return cast("dict[Any, Any]", inner) if isinstance(inner, dict) and inner else self.items


class _Mark:
    """The place on the stack that MARK leaves."""


_MARK = _Mark()


def interpret(stream: BinaryIO) -> Any:
    """The next pickle of a stream: plain values, dictionaries, lists, `Tensor` and `Stub`.

    Raises:
        BadFileError: It is damaged, or names something that weights have no need of.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except BadFileError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise BadFileError(
            f"is a damaged pickle: {str(error)[:200]}", next_step="the download was not finished: fetch it again"
        ) from error
    raise BadFileError("is a cut-off pickle", next_step="the download was not finished: fetch it again")


class _Machine:
    """Pickle's stack and memo."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        return self._stack.pop()

    def step(self, name: str, argument: Any) -> None:
        """One opcode."""
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > 8 * _LONG_LIMIT_BYTES:
                raise _DamagedError("a number far too long")
            self._stack.append(argument)
        elif name in _PUTS:
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = self._stack[-1]
        elif name in _GETS:
            self._stack.append(self._memo[argument])
        elif name in _TUPLES:
            count = _TUPLES[name]
            self._stack[-count:] = [tuple(self._stack[-count:])] if len(self._stack) >= count else _short()
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in _NOTHING:
            raise _DamagedError(f"the opcode {name}, which no file of weights uses")

    def since_mark(self) -> list[Any]:
        """Take everything above the last mark."""
        index = next((i for i in range(len(self._stack) - 1, -1, -1) if self._stack[i] is _MARK), None)
        if index is None:
            raise _DamagedError("a mark is missing")
        items = self._stack[index + 1 :]
        del self._stack[index:]
        return items

    def push(self, item: Any) -> None:
        self._stack.append(item)

    def top(self) -> Any:
        return self._stack[-1]


def _short() -> list[Any]:
    raise _DamagedError("the stack is empty")


def _set_items(target: Any, items: list[Any]) -> None:
    if isinstance(target, Stub):
        target = target.items
    if not isinstance(target, dict) or len(items) % 2:
        raise _DamagedError("items for something that is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_key(key)] = value


def _key(key: Any) -> Any:
    """What stands for a key; classes and stubs, as the checkpoints of Lightning have them, become their names."""
    if isinstance(key, (str, int, float, bytes)) or key is None:
        return key
    if isinstance(key, _Global):
        return f"{key.module}.{key.name}"
    return f"<{type(key).__name__}>"


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, Stub):
        return
    if not isinstance(target, list):
        raise _DamagedError("items for something that is no list")
    cast("list[Any]", target).extend(items)


def _persistent(machine: _Machine, _: Any) -> None:
    identity = machine.pop()
    parts = cast("tuple[Any, ...]", identity) if isinstance(identity, tuple) else ()
    if len(parts) < 2 or parts[0] != "storage":
        raise _DamagedError("a storage that is none")
    kind: Any = parts[1]
    if isinstance(kind, Stub):
        kind = kind.of
    if not isinstance(kind, _Global) or kind.name not in _STORAGES:
        raise _DamagedError("a storage of no known number format")
    machine.push(_Storage(_STORAGES[kind.name]))


def _named(module: str, name: str) -> _Global:
    """A class or function, if weights may name it."""
    known = _Global(module, name)
    allowed = (
        (module, name) in _PLAIN
        or (module, name) in _INERT
        or (module == "torch._utils" and (name in _REBUILD or name == "_rebuild_parameter"))
        or (module == "torch._tensor" and name == "_rebuild_from_type_v2")
        or (module in {"torch", "torch.cuda", "torch.storage"} and name in _STORAGES)
        or (module == "torch" and name in _DTYPES)
    )
    if not allowed:
        raise BadFileError(
            f"asks to run {module}.{name}, which no file of weights needs",
            value=f"{module}.{name}",
            allowed="tensors, numbers, text, lists and dictionaries",
            next_step="do not load it with other programs either unless you trust whoever made it; "
            "look for a safetensors file of the same model",
        )
    return known


def _global(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.push(_named(module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise _DamagedError("a class without a name")
    machine.push(_named(module, name))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    if not isinstance(function, _Global) or not isinstance(arguments, tuple):
        raise _DamagedError("a call of something that is no class")
    machine.push(_made(function, cast("tuple[Any, ...]", arguments)))


def _made(function: _Global, arguments: tuple[Any, ...]) -> Any:
    """What a call would have given, told from its name."""
    plain = _PLAIN.get((function.module, function.name))
    if plain is dict:
        return {}
    if plain is not None:
        items = cast("list[Any]", arguments[0]) if arguments and isinstance(arguments[0], (list, tuple)) else []
        return cast("Callable[[list[Any]], Any]", plain)(items)
    if function.name == "_rebuild_parameter" or (function.name == "Parameter" and arguments):
        return arguments[0]
    if function.name == "_rebuild_from_type_v2":
        return _made(arguments[0], arguments[2])
    if function.name in _REBUILD:
        return _tensor(function.name, arguments)
    return Stub(function)


def _tensor(name: str, arguments: tuple[Any, ...]) -> Tensor:
    storage_at, size_at, dtype_at = _REBUILD[name]
    storage, size = arguments[storage_at], arguments[size_at]
    if not isinstance(storage, _Storage) or not isinstance(size, tuple):
        raise _DamagedError("a tensor without a storage")
    sides = cast("tuple[Any, ...]", size)
    if len(sides) > 16 or not all(type(side) is int and 0 <= side < 2**48 for side in sides):
        raise _DamagedError("a tensor of an impossible shape")
    dtype = storage.dtype
    if dtype_at is not None and len(arguments) > dtype_at and isinstance(arguments[dtype_at], _Global):
        dtype = arguments[dtype_at].name
    return Tensor(TensorInfo(dtype, sides))


def _new_object(machine: _Machine, _: Any) -> None:
    _reduce(machine, None)


def _build(machine: _Machine, _: Any) -> None:
    state, target = machine.pop(), machine.top()
    if isinstance(target, Stub):
        target.state = state


def _pop_mark(machine: _Machine, _: Any) -> None:
    machine.since_mark()


def _dict(machine: _Machine, _: Any) -> None:
    items, made = machine.since_mark(), cast("dict[Any, Any]", {})
    _set_items(made, items)
    machine.push(made)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine.top(), [key, value])


def _set_many(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    _set_items(machine.top(), items)


def _append(machine: _Machine, _: Any) -> None:
    item = machine.pop()
    _extend(machine.top(), [item])


def _append_many(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    _extend(machine.top(), items)


def _add_items(machine: _Machine, _: Any) -> None:
    machine.since_mark()


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,
    "MARK": lambda: _MARK,
}
_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    )
)
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = frozenset(("PROTO", "FRAME"))
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "DICT": _dict,
    "FROZENSET": lambda machine, _: machine.push(machine.since_mark()),
    "SETITEM": _set_item,
    "SETITEMS": _set_many,
    "APPEND": _append,
    "APPENDS": _append_many,
    "ADDITEMS": _add_items,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new_object,
    "BUILD": _build,
    "BINPERSID": _persistent,
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": _pop_mark,
    "DUP": lambda machine, _: machine.push(machine.top()),
}
