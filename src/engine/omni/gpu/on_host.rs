//! The kernels on the processor, for tests: a [`Machine`] at the other end of a pipe.
//!
//! Owns the program that `kernels/on_host/main.cpp` becomes, which this compiles with the system's C++ compiler, and one running copy of it, which ends with its owner. A kernel that reads past its memory ends it too.

use super::{Argument, Launch, Machine};
use crate::engine::EngineError;
use crate::engine::kv_cache::KvCache;
use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, OnceLock};

fn kernels() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

/// The kernels' source, all files of it, in the order of their names.
pub fn source() -> Vec<u8> {
    let parts = std::fs::read_dir(kernels().join("step")).unwrap().map(|entry| entry.unwrap().path());
    let mut parts: Vec<PathBuf> = parts.collect();
    parts.sort();
    parts.insert(0, kernels().join("decoder_step.cu"));
    parts.iter().flat_map(|file| std::fs::read(file).unwrap()).collect()
}

/// The compiled program, beside the test that runs it; compiled when the kernels have changed.
fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            let mut digest = Sha256::new();
            digest.update(source());
            for file in ["on_host/cuda.h", "on_host/main.cpp"] {
                digest.update(std::fs::read(kernels().join(file)).unwrap());
            }
            let name: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            let program = std::env::current_exe().unwrap().with_file_name(format!("kernels-on-host-{name}"));
            if program.exists() {
                return program;
            }
            // Another test process may be at it too: the last to rename wins, and both are the same.
            let unfinished = program.with_extension(std::process::id().to_string());
            let compiled = Command::new(std::env::var("CXX").unwrap_or_else(|_| "c++".into()))
                .args(["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"])
                // Its checks take a fibre's jump for a fault.
                .args(["-U_FORTIFY_SOURCE", "-o"])
                .arg(&unfinished)
                .arg(kernels().join("on_host/main.cpp"))
                .output()
                .expect("these tests need a C++ compiler, as building some of the libraries does: install g++");
            assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
            std::fs::rename(unfinished, &program).unwrap();
            program
        })
        .clone()
}

/// The machine. See the module's head.
pub struct OnHost {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    plan: Vec<Launch>,
    /// Where the cache is kept between steps: its keys and values, layer by layer.
    caches: Vec<(u64, usize)>,
}

impl OnHost {
    /// A new machine; with `backwards` every kernel's last threads and blocks go first.
    pub fn start(backwards: bool) -> Self {
        let mut child = Command::new(program()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut machine = Self { child, commands, answers, plan: Vec::new(), caches: Vec::new() };
        machine.say(&format!("backwards {}", u8::from(backwards)));
        machine
    }

    fn say(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("the kernels' program has ended");
    }

    fn answer(&mut self) -> String {
        self.commands.flush().unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the kernels' program ended: a kernel touched what is not its own, or waits in vain");
        line.trim().to_owned()
    }

    /// Memory with `bytes` in it.
    pub fn hold(&mut self, bytes: &[u8]) -> u64 {
        let address = self.room(bytes.len()).unwrap();
        self.write(address, bytes).unwrap();
        address
    }

    /// Runs one kernel.
    pub fn launch(&mut self, launch: &Launch) {
        let (x, y) = launch.grid;
        let mut line = format!("launch {} {x} {y} {} {}", launch.kernel, launch.shared, launch.arguments.len());
        for argument in &launch.arguments {
            let (kind, value) = match argument {
                Argument::Address(address) => ('p', *address),
                Argument::Number(number) => ('u', u64::from(*number)),
                Argument::Factor(factor) => ('f', u64::from(factor.to_bits())),
            };
            line.push_str(&format!(" {kind} {value}"));
        }
        self.say(&line);
        assert_eq!(self.answer(), "ok", "{launch:?}");
    }
}

fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let flat = tensor.flatten_all().unwrap();
    match tensor.dtype() {
        DType::F32 => flat.to_vec1::<f32>().unwrap().into_iter().flat_map(f32::to_le_bytes).collect(),
        DType::BF16 => flat.to_vec1::<half::bf16>().unwrap().into_iter().flat_map(half::bf16::to_le_bytes).collect(),
        other => panic!("no kernel takes {other:?}"),
    }
}

impl Machine for OnHost {
    fn place(&mut self, tensor: &Tensor) -> Result<u64, EngineError> {
        Ok(self.hold(&bytes_of(tensor)))
    }

    fn place_blocks(&mut self, blocks: &Arc<QTensor>) -> Result<u64, EngineError> {
        Ok(self.hold(&blocks.data()?))
    }

    /// So few that every block has more than one row to make.
    fn processors(&self) -> usize {
        1
    }

    fn room(&mut self, bytes: usize) -> Result<u64, EngineError> {
        self.say(&format!("alloc {bytes}"));
        Ok(self.answer().parse().unwrap())
    }

    fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), EngineError> {
        self.say(&format!("write {to} {}", bytes.len()));
        self.commands.write_all(bytes).unwrap();
        Ok(())
    }

    fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError> {
        self.say(&format!("read {from} {}", bytes.len()));
        self.commands.flush().unwrap();
        self.answers.read_exact(bytes).expect("the kernels' program has ended");
        Ok(())
    }

    fn prepare(&mut self, plan: Vec<Launch>) -> Result<(), EngineError> {
        self.plan = plan;
        Ok(())
    }

    /// The cache is candle's: it is copied here for the step, and the slot that was written is copied back.
    fn run(&mut self, caches: u64, cache: &KvCache, at: usize) -> Result<(), EngineError> {
        let tensors: Vec<Tensor> = cache.slots().flat_map(|(k, v)| [k.clone(), v.clone()]).collect();
        let (size, each) = (tensors[0].elem_count(), tensors[0].dtype().size_in_bytes());
        if self.caches.first().is_none_or(|(_, held)| *held != size) {
            self.caches = tensors.iter().map(|_| (self.room(each * size).unwrap(), size)).collect();
        }
        let held = self.caches.clone();
        for (tensor, (address, _)) in tensors.iter().zip(&held) {
            self.write(*address, &bytes_of(tensor))?;
        }
        self.write(caches, &held.iter().flat_map(|(a, _)| a.to_le_bytes()).collect::<Vec<_>>())?;
        for launch in self.plan.clone() {
            self.launch(&launch);
        }
        let (heads, room, width) = tensors[0].dims3()?;
        let mut slots = Vec::new();
        for (address, _) in held {
            let mut all = vec![0; each * size];
            self.read(address, &mut all)?;
            let slot: Vec<u8> =
                (0..heads).flat_map(|h| all[(h * room + at) * width * each..][..width * each].to_vec()).collect();
            slots.push(Tensor::from_raw_buffer(&slot, tensors[0].dtype(), &[heads, 1, width], &Device::Cpu)?);
        }
        for (layer, pair) in slots.chunks_exact(2).enumerate() {
            cache.write(layer, at, &pair[0], &pair[1])?;
        }
        Ok(())
    }
}

impl Drop for OnHost {
    fn drop(&mut self) {
        // It may have ended already, which is what a test then says.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
