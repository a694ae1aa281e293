//! Voices kept, found, renamed, deleted and damaged, in folders of their own.

use super::super::recording::tests::{recording, speech};
use super::*;
use std::time::Duration;

fn library() -> (tempfile::TempDir, VoiceLibrary) {
    let home = tempfile::tempdir().unwrap();
    let library = VoiceLibrary::new(home.path());
    (home, library)
}

fn add(library: &VoiceLibrary, name: &str, from_s: f64) -> Result<KeptVoice, VoiceError> {
    library.add(&recording(speech()), Span::new(from_s, from_s + 6.0), name, Path::new("talk.wav"))
}

fn names(library: &VoiceLibrary) -> Vec<String> {
    library.list().voices.into_iter().map(|v| v.record.name).collect()
}

/// Everything in the library's folder but its lock.
fn files(library: &VoiceLibrary) -> Vec<String> {
    let entries = fs::read_dir(library.root()).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".lock").collect()
}

#[test]
fn a_voice_is_kept_and_found_again_as_it_was() {
    let (_home, library) = library();
    assert_eq!(library.list(), Listing::default());
    assert!(!library.root().exists(), "looking creates nothing");
    let kept = add(&library, "  小明 ", 3.0).unwrap();
    assert_eq!(kept.record.name, "小明");
    assert!(kept.record.created.starts_with("20") && kept.record.source.ends_with("/talk.wav"));
    assert_eq!(library.list().voices, std::slice::from_ref(&kept));
    assert_eq!(library.find("小明").unwrap(), kept);
    assert_eq!(library.find(&kept.id).unwrap(), kept);
    // 16 bits round by half a step.
    let expected = recording(speech()).cut(Span::new(3.0, 9.0));
    let samples = kept.samples().unwrap();
    assert_eq!(samples.len(), expected.len());
    assert!(samples.iter().zip(&*expected).all(|(a, b)| (a - b).abs() <= 0.5 / 32_768.0));
    assert_eq!(files(&library), [kept.id]);
}

#[test]
fn names_are_one_line_and_belong_to_one_voice() {
    let (_home, library) = library();
    add(&library, "Émile", 1.0).unwrap();
    let said = add(&library, "ÉMILE", 2.0).unwrap_err().to_string();
    assert!(said.contains("\"Émile\"") && said.contains("choose another name"), "{said}");
    let said = add(&library, "Anna", 1.0).unwrap_err().to_string();
    assert!(said.contains("kept already, as \"Émile\""), "{said}");
    for bad in ["", "  ", "a\nb", "../x", "C:\\x", &"x".repeat(61)] {
        assert!(matches!(add(&library, bad, 2.0), Err(VoiceError::BadName { .. })), "{bad:?}");
    }
    assert_eq!(names(&library), ["Émile"]);
    assert_eq!(files(&library).len(), 1, "what failed leaves nothing");
}

#[test]
fn voices_are_renamed_and_removed() {
    let (_home, library) = library();
    let (a, b) = (add(&library, "anna", 1.0).unwrap(), add(&library, "Ben", 3.0).unwrap());
    assert!(matches!(library.rename("Ben", "ANNA"), Err(VoiceError::NameTaken { .. })));
    assert_eq!(library.rename("anna", "Anna").unwrap().id, a.id, "a voice may change its own case");
    library.rename(&b.id, "Abel").unwrap();
    assert_eq!(names(&library), ["Abel", "Anna"]);
    library.remove("abel").unwrap();
    assert_eq!(names(&library), ["Anna"]);
    assert_eq!(files(&library), [a.id]);
    let said = library.remove("Abel").unwrap_err().to_string();
    assert!(said.contains("Abel") && said.contains("there are: Anna"), "{said}");
}

#[test]
fn a_broken_entry_is_reported_and_the_rest_is_there() {
    let (_home, library) = library();
    let good = add(&library, "good", 1.0).unwrap();
    let bad = add(&library, "bad", 3.0).unwrap();
    let record = library.root().join(&bad.id).join(RECORD);
    let whole = fs::read_to_string(&record).unwrap();
    for damage in
        ["", "name = ", &whole[..whole.len() / 2], &whole.replace("sample_sha256 = \"", "sample_sha256 = \"0")]
    {
        fs::write(&record, damage).unwrap();
        let listing = library.list();
        assert_eq!((listing.voices.len(), listing.broken.len()), (1, 1), "{damage:?}");
        assert!(listing.broken[0].why.contains(RECORD), "{listing:?}");
        assert_eq!(fs::read_to_string(&record).unwrap(), damage, "left as it was");
    }
    fs::write(&record, whole).unwrap();
    fs::write(library.root().join("stray file"), "").unwrap();
    fs::create_dir(library.root().join("stray folder")).unwrap();
    fs::remove_file(bad.sample_path()).unwrap();
    let listing = library.list();
    assert_eq!(listing.broken.len(), 2, "{listing:?}");
    assert_eq!(library.find("good").unwrap().id, good.id);
    // Another sample under the right name.
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/speech/sky.wav"), good.sample_path()).unwrap();
    assert!(matches!(good.samples(), Err(VoiceError::Damaged { .. })));
}

#[test]
fn what_is_not_usable_is_not_kept() {
    let (_home, library) = library();
    let said =
        library.add(&recording(speech()), Span::new(1.0, 2.0), "x", Path::new("talk.wav")).unwrap_err().to_string();
    assert!(said.contains("talk.wav") && said.contains("5 to 15 seconds"), "{said}");
    assert!(!library.root().exists());
}

#[test]
fn two_programs_cannot_keep_the_same_name() {
    let (_home, library) = library();
    let recording = recording(speech());
    let keep = |from_s| library.add(&recording, Span::new(from_s, from_s + 6.0), "Twin", Path::new("t.wav")).is_ok();
    let kept: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|i| scope.spawn(move || keep(f64::from(i)))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 1, "{kept:?}");
    assert_eq!(files(&library).len(), 1);
}

#[test]
fn moments_are_written_as_rfc_3339() {
    let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
    // From `date -u -d @N +%FT%TZ`.
    assert_eq!(at(0), "1970-01-01T00:00:00Z");
    assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
    assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
    assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59Z");
    assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
}
