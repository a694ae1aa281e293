use super::*;

#[test]
fn the_built_in_catalog_is_complete() {
    let catalog = Catalog::built_in().unwrap();
    for model in &catalog.models {
        for file in &model.files {
            assert!(!file.mirror.is_empty(), "{} of {} has no mirror", file.name, model.id);
            // An archive of weights is about as large as the weights: a slip in a figure shows here.
            let archives: u64 = file.mirror.iter().map(|p| p.bytes).sum();
            if file.size > 20_000_000 {
                assert!((archives as f64 / file.size as f64 - 0.95).abs() < 0.06, "{}: {archives}", file.name);
            }
        }
    }
    let roles: Vec<_> = catalog.starter().iter().map(|m| m.role).collect();
    for role in [Role::Llm, Role::Stt, Role::Tts, Role::EndOfTurn] {
        assert_eq!(roles.iter().filter(|r| **r == role).count(), 1, "the starter set has one {}", role.name());
    }
}

/// Checksums and sizes as they were measured, apart from the catalog.
#[test]
fn the_starter_files_are_the_measured_ones() {
    let catalog = Catalog::built_in().unwrap();
    let measured = [
        ("qwen2.5-coder-0.5b", 491_400_064, "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"),
        ("qwen2.5-coder-1.5b", 1_117_320_768, "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"),
        ("whisper-base", 145_217_532, "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"),
        ("piper-joe", 63_201_294, "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06"),
        ("smart-turn", 8_679_182, "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"),
    ];
    for (id, size, sha256) in measured {
        let file = &catalog.model(id).unwrap().files[0];
        assert_eq!((file.size, file.sha256.as_str()), (size, sha256), "{id}");
    }
}

const GOOD: &str = r#"
[[model]]
id = "m"
title = "M"
role = "llm"
licence = "MIT"
purpose = "Thinks."
memory = 1
cores = 1
starter = true
[[model.file]]
name = "a.bin"
size = 3
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
hub = { repo = "o/r", revision = "main", path = "x/a.bin" }
mirror = [{ package = "p==1.0", bytes = 9, path = "p/a.bin" }]
"#;

#[track_caller]
fn refused(from: &str, to: &str, because: &str) {
    assert!(GOOD.contains(from));
    refused_whole(&GOOD.replace(from, to), because);
}

#[track_caller]
fn refused_whole(catalog: &str, because: &str) {
    let error = Catalog::parse(catalog).unwrap_err().to_string();
    assert!(error.contains(because), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_good_entry_is_read() {
    let catalog = Catalog::parse(GOOD).unwrap();
    let model = catalog.model("m").unwrap();
    assert_eq!((model.role, model.download_size(), model.kept_size()), (Role::Llm, 3, 3));
}

#[test]
fn a_malformed_checksum_is_refused() {
    refused("ba7816", "ba781", "not 64 lower-case hexadecimal digits");
    refused("ba7816", "BA7816", "not 64 lower-case hexadecimal digits");
    refused("ba7816", "xx7816", "not 64 lower-case hexadecimal digits");
}

#[test]
fn what_is_missing_or_impossible_is_refused() {
    refused("size = 3", "size = 0", "a.bin has size 0");
    refused("size = 3", "size = -3", "size");
    refused("sha256", "md5", "sha256");
    refused("licence = \"MIT\"", "licence = \" \"", "model m has an empty licence");
    refused("memory = 1", "memory = 0", "no memory");
    refused("role = \"llm\"", "role = \"cook\"", "cook");
    refused("repo = \"o/r\"", "repo = \"r\"", "owner/name");
}

#[test]
fn names_that_could_leave_the_folder_are_refused() {
    refused("id = \"m\"", "id = \"../m\"", "model id \"../m\"");
    refused("name = \"a.bin\"", "name = \"b/a.bin\"", "file name \"b/a.bin\"");
    refused("x/a.bin", "../a.bin", "a path");
    refused("p/a.bin", "/etc/passwd", "mirror part p==1.0");
    refused("p==1.0", "--index-url==1", "mirror part --index-url==1");
    refused("p==1.0", "p", "name==version");
}

#[test]
fn doubles_are_refused() {
    refused_whole(&format!("{GOOD}{GOOD}"), "model m is there twice");
    let file = &GOOD[GOOD.find("[[model.file]]").unwrap()..];
    refused_whole(&format!("{GOOD}{file}"), "two files called a.bin");
    let other = file.replace("a.bin", "b.bin").replace("bytes = 9", "bytes = 8");
    refused_whole(&format!("{GOOD}{other}"), "p==1.0 is given two sizes");
}

const SNAPSHOT: &str = r#"
[model.snapshot]
repo = "o/r"
revision = "main"
about = 7
files = ["config.json", "x/part-*.bin"]
"#;

#[test]
fn a_snapshot_stands_instead_of_files() {
    let head = &GOOD[..GOOD.find("[[model.file]]").unwrap()];
    let catalog = Catalog::parse(&format!("{head}{SNAPSHOT}")).unwrap();
    let model = catalog.model("m").unwrap();
    assert_eq!((model.download_size(), model.first_file()), (7, "config.json"));
    let snapshot = model.snapshot.as_ref().unwrap();
    assert!(snapshot.wants("config.json") && snapshot.wants("x/part-1.bin") && snapshot.wants("x/part-.bin"));
    for other in ["x/config.json", "x/part-1.bin.bak", "part-1.bin", "x/part-1/2.bin", "x/part"] {
        assert!(!snapshot.wants(other), "{other}");
    }
    assert_eq!(snapshot.lacking(&["config.json"]), Some("x/part-*.bin"));
    assert_eq!(snapshot.lacking(&["x/part-1.bin", "config.json"]), None);

    refused_whole(&format!("{GOOD}{SNAPSHOT}"), "both a snapshot and files");
    refused_whole(head, "model m has no files");
    for (from, to) in [("x/part-*", "*/part"), ("x/part-*", "../part"), ("x/part-*", "x/*-*"), ("part-*", ".part")] {
        refused_whole(&format!("{head}{}", SNAPSHOT.replace(from, to)), "is no path in a repository");
    }
    for (from, to) in [("o/r", "o"), ("o/r", "o/../r"), ("\"main\"", "\"\""), ("7", "0")] {
        refused_whole(&format!("{head}{}", SNAPSHOT.replace(from, to)), "its snapshot needs");
    }
}

#[test]
fn an_unknown_model_is_named_with_the_known_ones() {
    let error = Catalog::parse(GOOD).unwrap().model("n").unwrap_err().to_string();
    assert_eq!(error, "there is no model called \"n\"; the catalog has: m");
}
