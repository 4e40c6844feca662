"""Describes the cffi extension: its declarations are `plan.h` and `native.h`, its code is `extension.c`."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent

ffi = FFI()
ffi.cdef((HERE / "plan.h").read_text())
ffi.cdef((HERE / "native.h").read_text())
ffi.set_source(
    "pycontainers._native._lib",
    '#include <stddef.h>\n#include <stdint.h>\n#include "plan.h"\n#include "native.h"\n',
    sources=["_native/extension.c"],
    depends=["_native/native.h", "_native/plan.h"],
    include_dirs=["_native"],
    extra_compile_args=["-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"],
    py_limited_api=True,
)
