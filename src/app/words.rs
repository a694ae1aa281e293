//! The window's words, in English and Chinese. The sentences are in `assets/words`, in the Fluent format, each under a key.
//!
//! Which language is spoken belongs to the window thread, and is set before anything is drawn. Invariants (tested): both
//! files have the same keys with the same placeholders, every key is used, and a sentence without placeholders is one
//! line. What the session [tells](Told) is worded here too; only names, paths and the messages of others stay as they are.

use super::panels::human_bytes;
use crate::session::told::{Told, Value};
use crate::settings::Interface;
use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::OnceLock;

/// A language that the window speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    #[default]
    English,
    Chinese,
}

impl Language {
    pub const ALL: [Language; 2] = [Language::English, Language::Chinese];

    /// What the user chose, or what the system speaks.
    pub fn of(interface: Interface) -> Language {
        match interface {
            Interface::English => Language::English,
            Interface::Chinese => Language::Chinese,
            Interface::System => Language::of_locale(sys_locale::get_locale().as_deref()),
        }
    }

    fn of_locale(locale: Option<&str>) -> Language {
        let is_chinese = locale.is_some_and(|locale| locale.split(['-', '_', '.']).next() == Some("zh"));
        if is_chinese { Language::Chinese } else { Language::English }
    }

    const fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Chinese => "zh",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Language::English => include_str!("../../assets/words/en.ftl"),
            Language::Chinese => include_str!("../../assets/words/zh.ftl"),
        }
    }

    fn bundle(self) -> &'static FluentBundle<FluentResource> {
        static ENGLISH: OnceLock<FluentBundle<FluentResource>> = OnceLock::new();
        static CHINESE: OnceLock<FluentBundle<FluentResource>> = OnceLock::new();
        let bundle = match self {
            Language::English => &ENGLISH,
            Language::Chinese => &CHINESE,
        };
        bundle.get_or_init(|| {
            let mut bundle = FluentBundle::new_concurrent(vec![self.tag().parse().unwrap_or_default()]);
            bundle.set_use_isolating(false);
            // Of a file with a mistake the rest is used; a test rules mistakes out.
            let resource = FluentResource::try_new(self.text().to_owned()).unwrap_or_else(|(rest, _)| rest);
            let _ = bundle.add_resource(resource);
            bundle
        })
    }
}

thread_local! {
    static SPOKEN: Cell<Language> = const { Cell::new(Language::English) };
}

/// From now on this thread's window speaks this language.
pub fn speak(language: Language) {
    SPOKEN.set(language);
}

/// A sentence of a language, if it has that key.
pub fn look_up(language: Language, key: &str) -> Option<&'static str> {
    let bundle = language.bundle();
    let pattern = bundle.get_message(key)?.value()?;
    match bundle.format_pattern(pattern, None, &mut Vec::new()) {
        Cow::Borrowed(text) => Some(text),
        Cow::Owned(_) => None,
    }
}

/// The sentence with this key, which has no placeholders.
pub fn t(key: &'static str) -> &'static str {
    look_up(SPOKEN.get(), key).unwrap_or(key)
}

/// The sentence with this key, its placeholders filled.
pub fn fill(key: &'static str, values: &[(&'static str, &str)]) -> String {
    let mut args = FluentArgs::with_capacity(values.len());
    values.iter().for_each(|(name, value)| args.set(*name, *value));
    format(key, &args)
}

/// The sentence with this key, about `$n` things.
pub fn count(key: &'static str, n: usize) -> String {
    let mut args = FluentArgs::with_capacity(1);
    args.set("n", n);
    format(key, &args)
}

/// What the session tells, in the window's language; in English where it has no sentence for it.
pub fn told(told: &Told) -> String {
    let mut args = FluentArgs::new();
    for (name, value) in told.values() {
        let text = match value {
            Value::Text(text) => text.clone(),
            Value::Word(key) => look_up(SPOKEN.get(), key).unwrap_or(key).to_owned(),
            Value::Size(bytes) => human_bytes(*bytes),
        };
        args.set(name.to_owned(), text);
    }
    let said = try_format(told.key(), &args);
    said.unwrap_or_else(|| told.to_string())
}

fn format(key: &'static str, args: &FluentArgs<'_>) -> String {
    try_format(key, args).unwrap_or_else(|| key.to_owned())
}

fn try_format(key: &str, args: &FluentArgs<'_>) -> Option<String> {
    let bundle = SPOKEN.get().bundle();
    let pattern = bundle.get_message(key)?.value()?;
    Some(bundle.format_pattern(pattern, Some(args), &mut Vec::new()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    /// Keys with their placeholders, read without the library that is tested.
    fn keys(language: Language) -> BTreeMap<String, BTreeSet<String>> {
        let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut last = String::new();
        for line in language.text().lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with(' ')) {
                last = key.to_owned();
                assert!(keys.insert(last.clone(), BTreeSet::new()).is_none(), "{last} twice in {language:?}");
            }
            let names = line
                .split('$')
                .skip(1)
                .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>());
            keys.get_mut(&last).unwrap().extend(names);
        }
        keys
    }

    #[test]
    fn both_languages_have_the_same_keys_and_placeholders() {
        let [english, chinese] = Language::ALL.map(keys);
        assert!(english.len() > 100, "{}", english.len());
        for (key, names) in &english {
            assert_eq!(chinese.get(key), Some(names), "{key}");
        }
        assert_eq!(english.len(), chinese.len(), "{:?}", chinese.keys().find(|key| !english.contains_key(*key)));
    }

    #[test]
    fn every_sentence_can_be_said() {
        for language in Language::ALL {
            assert!(FluentResource::try_new(language.text().to_owned()).is_ok(), "{language:?} has a mistake");
            speak(language);
            for (key, names) in keys(language) {
                let key: &'static str = Box::leak(key.into_boxed_str());
                if names.is_empty() {
                    assert!(look_up(language, key).is_some_and(|text| !text.trim().is_empty()), "{key}: {language:?}");
                    continue;
                }
                let mut args = FluentArgs::new();
                names.iter().for_each(|name| args.set(name.clone(), if name == "n" { "3" } else { "value" }));
                let said = format(key, &args);
                assert!(!said.contains('{') && said != key, "{key}: {said}");
            }
        }
    }

    fn sources(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, text);
            } else {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn every_key_is_used() {
        let mut text = String::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        sources(&root.join("app"), &mut text);
        // What is told comes from the session; what is called by its name is looked at in a test of its own.
        sources(&root.join("session"), &mut text);
        let is_used =
            |key: &String| text.contains(&format!("\"{key}\"")) || NAMED.iter().any(|prefix| key.starts_with(prefix));
        let unused: Vec<_> = keys(Language::English).into_keys().filter(|key| !is_used(key)).collect();
        assert!(unused.is_empty(), "{unused:?}");
    }

    /// What is known by a name is told by `Told::named`, under these beginnings.
    const NAMED: [&str; 2] = ["purpose-", "loading-"];

    #[test]
    fn what_is_called_by_its_name_has_a_word_in_every_language() {
        let mut named: Vec<(String, String)> = Vec::new();
        for model in &crate::weights::Catalog::built_in().unwrap().models {
            named.push((Told::named("purpose", &model.id, "").key().to_owned(), model.purpose.clone()));
        }
        // As the engines call their parts.
        for part in [
            "speech to text",
            "voice",
            "language model",
            "hearing",
            "speech",
            "language",
            "language (GGUF)",
            "first steps",
            "ready",
        ] {
            named.push((Told::named("loading", part, "").key().to_owned(), part.to_owned()));
        }
        for (key, english) in &named {
            assert_eq!(look_up(Language::English, key), Some(english.as_str()), "{key}");
            assert!(look_up(Language::Chinese, key).is_some_and(|text| text != english), "{key}");
        }
        let all = keys(Language::English).into_keys().filter(|key| NAMED.iter().any(|prefix| key.starts_with(prefix)));
        let unknown: Vec<_> = all.filter(|key| named.iter().all(|(known, _)| known != key)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn what_the_session_tells_is_said_in_the_windows_language() {
        use crate::audio::{AudioError, Direction};
        use crate::weights::{Size, WeightsError};
        let busy = AudioError::Busy { direction: Direction::Input, name: "USB".into() };
        let full = WeightsError::DiskFull { path: "/m".into(), needed: Size(2_000_000_000), free: Size(5_000_000) };
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let unread = crate::audio::file::FileError::Unreadable { path: "/a/b.wav".into(), source: denied };
        let all = [Told::from(&busy), Told::from(&full), Told::from(&unread), "said as it is".into()];
        speak(Language::English);
        assert_eq!(
            all.each_ref().map(told),
            [
                "The microphone “USB” is in use by another program: close that program.",
                "/m needs 2.0 GB and the disk has 5.0 MB free: free some space.",
                "b.wav cannot be opened: permission denied.",
                "said as it is"
            ]
        );
        speak(Language::Chinese);
        assert_eq!(
            all.each_ref().map(told),
            [
                "麦克风“USB”正被其他程序占用：请关闭那个程序。",
                "/m 需要 2.0 GB，磁盘只剩 5.0 MB：请腾出空间。",
                "b.wav 打不开：没有权限。",
                "said as it is"
            ]
        );
        // For logs and the command line it is the error's own message.
        assert_eq!(all[0].to_string(), busy.to_string());
        assert_eq!(told(&Told::new("no-such-key", "English")), "English");
    }

    #[test]
    fn the_systems_language_is_followed_where_it_is_spoken() {
        let of = |locale| Language::of_locale(Some(locale));
        assert_eq!([of("zh-CN"), of("zh_TW.UTF-8"), of("zh")], [Language::Chinese; 3]);
        assert_eq!([of("en-GB"), of("de-DE"), of("C"), of("zha")], [Language::English; 4]);
        assert_eq!(Language::of_locale(None), Language::English);
    }

    #[test]
    fn counts_and_values_are_put_in() {
        speak(Language::English);
        assert_eq!([1, 2].map(|n| count("history-turns", n)), ["1 turn", "2 turns"]);
        assert_eq!(fill("loading", &[("what", "ears")]), "Loading: ears");
        assert_eq!(t("no-such-key"), "no-such-key");
        speak(Language::Chinese);
        assert_eq!(count("history-turns", 2), "2 轮");
    }
}
