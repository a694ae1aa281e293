//! The libraries that `make cuda` links in the place of CUDA's: a program starts without CUDA, its calls then give the
//! error code for that; where a library is there, they reach it with all their arguments.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Functions as cudarc's bindings declare them.
const BINDINGS: [(&str, &str); 5] = [
    ("driver", "fn cuInit(flags: u32) -> CUresult;\n    fn cuMany(a: f64) -> CUresult;"),
    ("cublas", "fn cublasCreate_v2(h: *mut H) -> cublasStatus_t;\nfn cublasGetStatusString(s: S) -> *const c_char;"),
    ("cublaslt", "fn cublasLtCreate(h: *mut H) -> cublasStatus_t;"),
    ("curand", "fn curandCreateGenerator(g: *mut G, t: T) -> curandStatus_t;"),
    ("nvrtc", "fn nvrtcVersion(a: *mut i32, b: *mut i32) -> nvrtcResult;"),
];

/// A driver with one function, which needs everything the calling convention passes in registers and on the stack, and
/// spoils the registers that it may.
const DRIVER: &str = r#"
int cuMany(double a, float b, long c, double d, long e, long f, long g, long h, long i, long j, double k) {
    return a == 1.5 && b == 2.5f && c == 3 && d == 4.5 && e == 5 && f == 6 && g == 7 && h == 8 && i == 9 && j == 10
        && k == 11.5 ? 42 : 43;
}
"#;

const PROGRAM: &str = r#"
#include <stdio.h>
int cuInit(unsigned), cublasCreate_v2(void *), cublasLtCreate(void *), curandCreateGenerator(void *, int);
int cuMany(double, float, long, double, long, long, long, long, long, long, double), nvrtcVersion(int *, int *);
const char *cublasGetStatusString(int);
int main(void) {
    for (int i = 0; i < 2; i++)
        printf("%d ", cuMany(1.5, 2.5f, 3, 4.5, 5, 6, 7, 8, 9, 10, 11.5));
    printf("%d %d %d ", cuInit(0), cublasCreate_v2(0), cublasLtCreate(0));
    printf("%d %d %s", curandCreateGenerator(0, 0), nvrtcVersion(0, 0), cublasGetStatusString(1));
    return 0;
}
"#;

fn succeed(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn a_program_starts_without_cuda_and_finds_it_where_it_is() -> Result<()> {
    let place = tempfile::tempdir()?;
    let at = |name: &str| place.path().join(name);
    for (module, functions) in BINDINGS {
        fs::create_dir_all(at(&format!("source/{module}/sys")))?;
        fs::write(at(&format!("source/{module}/sys/mod.rs")), functions)?;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/cuda/late_libraries.py");
    succeed(Command::new("python3").arg(script).args([at("source"), at("lib")]))?;
    fs::write(at("program.c"), PROGRAM)?;
    let libraries = ["-lcuda", "-lcublas", "-lcublasLt", "-lcurand", "-lnvrtc"];
    let program = at("program");
    let mut compile = Command::new("cc");
    succeed(compile.args([at("program.c"), "-o".into(), program.clone(), "-L".into(), at("lib")]).args(libraries))?;

    let missing = "100 1 1 203 7 cublas is not on this machine";
    let run = |folder: &Path| succeed(Command::new(&program).env("LD_LIBRARY_PATH", folder));
    // Where there is a real driver, this part of the test would meet it.
    if !Path::new("/proc/driver/nvidia").exists() {
        assert_eq!(run(&at("lib"))?, format!("100 100 {missing}"));
    }
    fs::create_dir(at("driver"))?;
    fs::write(at("driver.c"), DRIVER)?;
    let library = at("driver/libcuda.so.1");
    succeed(Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).args([library, at("driver.c")]))?;
    assert_eq!(run(&at("driver"))?, format!("42 42 {missing}"));
    Ok(())
}
