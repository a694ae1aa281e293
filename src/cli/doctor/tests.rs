use super::*;
use crate::weights::fit::Gpu;

fn machine() -> Machine {
    Machine {
        cpu: "Test CPU".into(),
        cores: 8,
        memory_total: 16_000_000_000,
        memory_available: 12_000_000_000,
        disk_free: Some(100_000_000_000),
        gpus: Vec::new(),
        gpu_trouble: None,
    }
}

fn sound() -> SoundDevices {
    SoundDevices { microphones: Ok(vec!["Mic".into()]), loudspeakers: Ok(vec!["Speaker".into()]) }
}

/// A store whose files have the right names and sizes (all holes), for the models named.
fn store_with(ids: &[&str]) -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(Some(home.path().to_owned())).unwrap();
    for id in ids {
        let model = Catalog::built_in().unwrap().model(id).unwrap();
        std::fs::create_dir_all(store.dir_of(id)).unwrap();
        for file in &model.files {
            let (name, size, _) = file.kept();
            std::fs::File::create(store.dir_of(id).join(name)).unwrap().set_len(size).unwrap();
        }
    }
    (home, store)
}

fn look(machine: &Machine, store: &Store, sound: &SoundDevices) -> Vec<Finding> {
    let catalog = Catalog::built_in().unwrap();
    examine(machine, &GpuUse::NotBuilt, &store.installed(catalog), catalog, sound)
}

#[track_caller]
fn about<'a>(findings: &'a [Finding], subject: &str) -> &'a Finding {
    findings.iter().find(|f| f.subject == subject).unwrap()
}

const STARTER: [&str; 4] = ["qwen2.5-coder-1.5b", "whisper-base", "piper-joe", "smart-turn"];

#[test]
fn a_good_machine_with_the_starter_set_has_no_findings() {
    let (_home, store) = store_with(&STARTER);
    let findings = look(&machine(), &store, &sound());
    assert!(findings.iter().all(|f| f.severity == Severity::Good && f.remedy.is_empty()), "{findings:?}");
    assert_eq!(about(&findings, "llm").seen, "qwen2.5-coder-1.5b");
}

#[test]
fn every_missing_model_is_a_problem_with_the_command_that_helps() {
    let (_home, store) = store_with(&["smart-turn"]);
    let findings = look(&machine(), &store, &sound());
    for (role, id) in [("stt", "whisper-base"), ("llm", "qwen2.5-coder-1.5b"), ("tts", "piper-joe")] {
        let f = about(&findings, role);
        assert_eq!(f.severity, Severity::Problem);
        assert!(f.remedy.starts_with(&format!("antiphon models pull {id} ")), "{}", f.remedy);
    }
    assert_eq!(about(&findings, "end_of_turn").severity, Severity::Good);
}

#[test]
fn a_small_machine_is_told_the_small_model() {
    let small = Machine { memory_total: 3_000_000_000, memory_available: 2_500_000_000, ..machine() };
    let (_home, store) = store_with(&[]);
    assert!(about(&look(&small, &store, &sound()), "llm").remedy.contains("pull qwen2.5-coder-0.5b"));

    let (_home, store) = store_with(&STARTER);
    let f = about(&look(&small, &store, &sound()), "llm").clone();
    assert_eq!(f.severity, Severity::Warning);
    assert!(f.seen.contains("needs 1.80 GB of memory, 1.50 GB are to be had"), "{}", f.seen);
    assert!(f.remedy.contains("antiphon models pull qwen2.5-coder-0.5b"), "{}", f.remedy);
}

#[test]
fn sound_devices_that_are_missing_are_problems() {
    let (_home, store) = store_with(&STARTER);
    let none = SoundDevices { microphones: Ok(Vec::new()), loudspeakers: Err("connection refused".into()) };
    let findings = look(&machine(), &store, &none);
    assert_eq!(about(&findings, "microphone").severity, Severity::Problem);
    assert!(about(&findings, "microphone").remedy.contains("connect a microphone"));
    assert_eq!(about(&findings, "loudspeaker").seen, "connection refused");
    assert!(about(&findings, "loudspeaker").remedy.contains("sound server"));
}

#[test]
fn a_full_disk_counts_only_while_something_is_to_be_fetched() {
    let full = Machine { disk_free: Some(1_000_000), ..machine() };
    let (_home, store) = store_with(&[]);
    assert_eq!(about(&look(&full, &store, &sound()), "disk").severity, Severity::Problem);
    let (_home, store) = store_with(&STARTER);
    assert_eq!(about(&look(&full, &store, &sound()), "disk").severity, Severity::Good);
}

#[test]
fn a_card_is_named_and_what_stands_in_its_way_is_said() {
    let card = |memory: u64| Gpu { name: "NVIDIA A100".into(), memory: memory << 30, driver: "580.65".into() };
    let about = |gpus: Vec<Gpu>, gpu_use: GpuUse| gpu::gpu(&Machine { gpus, ..machine() }, &gpu_use);
    let cuda = || GpuUse::Works("CUDA");

    let large = about(vec![card(80)], cuda());
    assert_eq!((large.severity, large.remedy.as_str()), (Severity::Good, ""));
    assert!(large.seen.starts_with("NVIDIA A100, 85.90 GB, driver 580.65; CUDA works; "), "{}", large.seen);
    for (memory, way) in [(80, "--dtype bf16"), (16, "--quantize q8_0"), (10, "--quantize q4_k")] {
        let found = about(vec![card(memory)], cuda());
        assert!(found.severity == Severity::Good && found.seen.contains(way), "{memory} GiB: {}", found.seen);
    }
    let small = about(vec![card(4)], cuda());
    assert!(small.severity == Severity::Warning && small.remedy.contains("starter engine"), "{}", small.remedy);
    assert!(about(vec![card(4), card(80)], cuda()).seen.contains("--dtype bf16"), "the largest card counts");

    let plain = about(vec![card(80)], GpuUse::NotBuilt);
    assert!(plain.severity == Severity::Warning && plain.remedy.contains("make cuda"));
    let fails = about(vec![card(80)], GpuUse::Fails("libcublas cannot be used: install it".into()));
    assert_eq!((fails.severity, fails.remedy.as_str()), (Severity::Warning, "libcublas cannot be used: install it"));

    for gpu_use in [GpuUse::NotBuilt, GpuUse::Fails("there is no CUDA device".into())] {
        assert_eq!(about(Vec::new(), gpu_use).severity, Severity::Good, "no card is no trouble");
    }
    assert!(about(Vec::new(), GpuUse::Works("Metal")).seen.starts_with("Metal works"));
    let broken = Machine { gpu_trouble: Some("couldn't communicate with the NVIDIA driver".into()), ..machine() };
    assert_eq!(gpu::gpu(&broken, &cuda()).severity, Severity::Warning);
}

#[test]
fn the_command_fails_when_no_conversation_is_possible_and_its_json_can_be_read() {
    let (_home, store) = store_with(&[]);
    let mut out = Vec::new();
    let error = run(&DoctorArgs { json: true }, &store, &sound(), &mut out).unwrap_err().to_string();
    assert!(error.contains("problems stand in the way of a conversation"), "{error}");
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["findings"].as_array().unwrap().len(), 11);
    assert!(json["machine"]["memory_total"].as_u64().unwrap() > 0);
    assert_eq!(json["sound"]["microphones"]["Ok"][0], "Mic");
}
