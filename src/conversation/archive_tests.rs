//! The archive on a real disk, also after crashes and with hands in it.

use super::*;
use crate::conversation::{KeptSound, Side};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn turn(number: u64, heard: &str, answer: &str) -> KeptTurn {
    KeptTurn {
        turn: number,
        at: at(number as i64),
        heard: heard.into(),
        question_seconds: None,
        answer: answer.into(),
        spoken_bytes: answer.len(),
        cut_off: false,
        engine: "scripted".into(),
        ttfa_ms: Some(612.5),
        user_sound: None,
        answer_sound: None,
    }
}

fn archive() -> (tempfile::TempDir, Archive) {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path().join("conversations"));
    (folder, archive)
}

#[test]
fn a_conversation_is_read_as_it_was_kept() {
    let (_folder, archive) = archive();
    assert!(archive.list("").is_empty() && archive.newest().is_none());
    let id = archive.begin(at(0)).unwrap();
    let sound = KeptSound { file: "0001-assistant.wav".into(), at: at(2), heard_seconds: 0.25 };
    let first = KeptTurn { answer_sound: Some(sound), ..turn(1, "你好\n\"hi\"", "Good day.") };
    let samples: Vec<f32> = (0..6000).map(|i| (i as f32 * 0.05).sin() * 0.5).collect();
    archive.keep_sound(&id, "0001-assistant.wav", 24_000, &samples).unwrap();
    archive.append(&id, &first).unwrap();
    archive.append(&id, &turn(2, "And?", "So.")).unwrap();

    let read = archive.load(&id).unwrap();
    assert_eq!((read.began, &read.turns), (at(0), &vec![first, turn(2, "And?", "So.")]));
    let clip = archive.sound(&id, &read.turns[0].sound(Side::Assistant).unwrap().file).unwrap();
    assert_eq!((clip.rate, clip.samples.len()), (24_000, 6000));
    assert!(clip.samples.iter().zip(&samples).all(|(a, b)| (a - b).abs() < 1.0 / 16_384.0));
}

#[test]
fn a_line_torn_by_a_crash_costs_that_turn_and_no_other() {
    let (folder, archive) = archive();
    let id = archive.begin(at(0)).unwrap();
    let path = folder.path().join("conversations").join(&id).join(TURNS);
    archive.append(&id, &turn(1, "one", "first")).unwrap();
    let whole = fs::read(&path).unwrap();
    archive.append(&id, &turn(2, "two, é", "second")).unwrap();
    let both = fs::read(&path).unwrap();
    // Wherever the second line is torn, also inside a character, the first turn is there and a third can be added.
    for end in whole.len()..both.len() {
        fs::write(&path, &both[..end]).unwrap();
        assert_eq!(archive.load(&id).unwrap().turns[0], turn(1, "one", "first"));
        archive.append(&id, &turn(3, "three", "third")).unwrap();
        let numbers: Vec<u64> = archive.load(&id).unwrap().turns.iter().map(|t| t.turn).collect();
        // All of the line but its end is a whole turn after all.
        assert!(numbers == [1, 3] || end == both.len() - 1 && numbers == [1, 2, 3], "torn at {end}: {numbers:?}");
    }
    // A crash before the header was whole: not a conversation, and no obstacle to the others.
    let other = archive.begin(at(5)).unwrap();
    fs::write(folder.path().join("conversations").join(&other).join(TURNS), "{\"antiphon").unwrap();
    assert!(matches!(archive.load(&other), Err(ArchiveError::NotOne(_))));
    assert_eq!(archive.newest().unwrap().id, id);
}

#[test]
fn conversations_are_listed_newest_first_and_found_by_their_words() {
    let (_folder, archive) = archive();
    let old = archive.begin(at(0)).unwrap();
    let new = archive.begin(at(60)).unwrap();
    let same_second = archive.begin(at(60)).unwrap();
    assert_ne!(new, same_second);
    archive.append(&old, &turn(1, "Tell me about Élan vital", "It is a term of Bergson's.")).unwrap();
    archive.append(&new, &turn(1, "", &"long ".repeat(40))).unwrap();
    let ids = |query: &str| archive.list(query).into_iter().map(|s| s.id).collect::<Vec<_>>();
    assert_eq!(ids(""), [same_second.clone(), new.clone(), old.clone()]);
    assert_eq!(ids("bergson ÉLAN"), [old]);
    assert!(ids("bergson long").is_empty());
    let titles: Vec<String> = archive.list("").into_iter().map(|s| s.title).collect();
    assert_eq!(titles[2], "Tell me about Élan vital");
    assert!(titles[1].chars().count() == TITLE && titles[1].ends_with('…'));
    assert_eq!(titles[0], "");
}

#[test]
fn what_is_deleted_is_gone_and_a_begun_deletion_is_finished() {
    let (folder, archive) = archive();
    let ids: Vec<String> = (0..3).map(|i| archive.begin(at(i)).unwrap()).collect();
    archive.keep_sound(&ids[0], "0001-user.wav", 16_000, &[0.5; 100]).unwrap();
    archive.delete(&ids[0]).unwrap();
    assert!(matches!(archive.load(&ids[0]), Err(ArchiveError::Missing(_))));
    // A crash after the renaming.
    let all = folder.path().join("conversations");
    fs::rename(all.join(&ids[1]), all.join(format!("{DELETED}{}", ids[1]))).unwrap();
    assert_eq!(archive.list("").len(), 1);
    archive.tidy();
    assert_eq!(fs::read_dir(&all).unwrap().count(), 1);
    archive.delete_all().unwrap();
    assert_eq!(fs::read_dir(&all).unwrap().count(), 0);
}

#[test]
fn no_name_leads_out_of_the_folder() {
    let (folder, archive) = archive();
    fs::write(folder.path().join("secret.wav"), "").unwrap();
    let id = archive.begin(at(0)).unwrap();
    for name in ["..", "../x", "/etc", "", ".hidden", "a/b", "a\\b"] {
        assert!(matches!(archive.delete(name), Err(ArchiveError::Missing(_))), "{name:?}");
        assert!(matches!(archive.sound(&id, name), Err(ArchiveError::Missing(_))), "{name:?}");
    }
    assert_eq!(archive.list("").len(), 1);
}
