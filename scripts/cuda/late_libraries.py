#!/usr/bin/env python3
"""Makes static libraries that stand in for the driver's and the toolkit's shared ones (libcuda, libcublas, ...), so that
the program starts where there is none of them: each function is looked up when the first one of its library is called.
Where a library or a function is missing, the call gives the error code that says so, and candle an error.

usage: late_libraries.py CUDARC_SOURCE OUT

What functions there are is read off the bindings in cudarc's source. A function here is one jump through a table. At
first the table leads every function to its library's loader, which keeps the arguments where they are (that is why it is
in assembly), fills the table and goes on to where the caller wanted to go.
"""

import pathlib
import re
import subprocess
import sys

# Library: cudarc's module, the prefix of its functions, file names to try, and the code for "it is not there".
LIBRARIES = {
    "cuda": ("driver", "cu[A-Z]", ["libcuda.so.1"], 100),  # CUDA_ERROR_NO_DEVICE
    "cublas": ("cublas", "cublas", ["libcublas.so.13"], 1),  # CUBLAS_STATUS_NOT_INITIALIZED
    "cublasLt": ("cublaslt", "cublasLt", ["libcublasLt.so.13"], 1),
    "curand": ("curand", "curand", ["libcurand.so.10"], 203),  # CURAND_STATUS_INITIALIZATION_FAILED
    "nvrtc": ("nvrtc", "nvrtc", ["libnvrtc.so.13"], 7),  # NVRTC_ERROR_BUILTIN_OPERATION_FAILURE
}

# Registers that carry arguments, as the System V ABI has them.
WHOLE = ["rdi", "rsi", "rdx", "rcx", "r8", "r9", "rax"]
FLOATS = [f"xmm{i}" for i in range(8)]

LOADER = """
#include <dlfcn.h>
#include <stddef.h>

static long is_missing(void) {{ return {missing}; }}
static const char *is_missing_too(void) {{ return "{library} is not on this machine"; }}

static const char *const names[] = {{ {names} }};
/* For each, '1' when it gives a text and not a code. */
static const char gives_text[] = "{texts}";
static const char *const files[] = {{ {files} }};
extern void *{library}_table[];

/* May run twice at once: both write the same. */
__attribute__((visibility("hidden"))) void {library}_load(void) {{
    void *handle = NULL;
    for (size_t i = 0; handle == NULL && i < sizeof files / sizeof *files; i++)
        handle = dlopen(files[i], RTLD_NOW | RTLD_GLOBAL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {{
        void *found = handle != NULL ? dlsym(handle, names[i]) : NULL;
        if (found == NULL)
            found = gives_text[i] == '1' ? (void *)is_missing_too : (void *)is_missing;
        __atomic_store_n(&{library}_table[i], found, __ATOMIC_RELEASE);
    }}
}}
"""


def functions(source, module, prefix):
    """The functions of a module, and which of them give a text and not a code."""
    text = (source / module / "sys" / "mod.rs").read_text()
    found = dict(re.findall(rf"fn ({prefix}\w*)\(.*\)(.*);", text))
    if not found:
        sys.exit(f"{source}/{module}/sys/mod.rs: no functions found: its form has changed, see {sys.argv[0]}")
    return {name: "c_char" in result for name, result in sorted(found.items())}


def assembly(library, names):
    """The functions, each a jump through the table, and what the table leads to at first."""
    room = 16 * len(FLOATS)
    lines = [".text", f"{library}_first:"]
    lines += [f"push %{register}" for register in WHOLE]
    # The index of the function, and the frame.
    lines += ["push %r11", "push %rbp", "mov %rsp, %rbp", "and $-16, %rsp", f"sub ${room}, %rsp"]
    lines += [f"movups %{register}, {16 * i}(%rsp)" for i, register in enumerate(FLOATS)]
    lines += [f"call {library}_load"]
    lines += [f"movups {16 * i}(%rsp), %{register}" for i, register in enumerate(FLOATS)]
    lines += ["mov %rbp, %rsp", "pop %rbp", "pop %r11"]
    lines += [f"pop %{register}" for register in reversed(WHOLE)]
    lines += [f"lea {library}_table(%rip), %r10", "jmp *(%r10,%r11,8)"]
    for i, name in enumerate(names):
        lines += [f".globl {name}", f".type {name}, @function", f"{name}: jmp *{library}_table+{8 * i}(%rip)"]
        lines += [f"{library}_{i}: mov ${i}, %r11d", f"jmp {library}_first"]
    lines += [".data", ".balign 8", f".globl {library}_table", f".hidden {library}_table", f"{library}_table:"]
    lines += [f".quad {library}_{i}" for i in range(len(names))]
    return "\n".join(lines + ['.section .note.GNU-stack,"",@progbits', ""])


def make(library, source, out):
    module, prefix, files, missing = LIBRARIES[library]
    found = functions(source, module, prefix)
    loader = LOADER.format(
        library=library,
        missing=missing,
        names=", ".join(f'"{name}"' for name in found),
        texts="".join(str(int(text)) for text in found.values()),
        files=", ".join(f'"{file}"' for file in files),
    )
    (out / f"{library}.c").write_text(loader)
    (out / f"{library}_table.s").write_text(assembly(library, list(found)))
    objects = []
    for name in [f"{library}.c", f"{library}_table.s"]:
        objects.append(str(out / name) + ".o")
        subprocess.run(["cc", "-O2", "-fPIC", "-c", str(out / name), "-o", objects[-1]], check=True)
    archive = out / f"lib{library}.a"
    archive.unlink(missing_ok=True)
    subprocess.run(["ar", "crs", str(archive), *objects], check=True)


def main():
    source, out = map(pathlib.Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    for library in LIBRARIES:
        make(library, source, out)


main()
