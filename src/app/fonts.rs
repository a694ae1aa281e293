//! The fonts: Latin and the frequent Chinese characters are carried along; for the rest a font of the system is asked,
//! the first time such a character is to be shown. Window thread.

use eframe::egui::{
    Context, FallbackRequest, FontData, FontDefinitions, FontFamily, FontInsert, FontPriority, FontProvider,
    InsertFontFamily,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// See assets/fonts/make_subset.py.
const REGULAR: &[u8] = include_bytes!("../../assets/fonts/antiphon-regular.otf");
const BOLD: &[u8] = include_bytes!("../../assets/fonts/antiphon-bold.otf");

/// Where systems keep a font with all Chinese characters, best first. In a collection, face 2 of Noto is "SC".
const SYSTEM_FONTS: &[(&str, u32)] = &[
    ("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc", 2),
    ("/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc", 2),
    ("/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc", 2),
    ("/usr/share/fonts/google-noto-sans-cjk-fonts/NotoSansCJK-Regular.ttc", 2),
    ("/usr/share/fonts/truetype/noto/NotoSansCJK-Regular.ttc", 2),
    ("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc", 0),
    ("/usr/share/fonts/wenquanyi/wqy-microhei/wqy-microhei.ttc", 0),
    ("/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc", 0),
    ("/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf", 0),
    ("/System/Library/Fonts/PingFang.ttc", 2),
    ("/System/Library/Fonts/Hiragino Sans GB.ttc", 0),
    ("/System/Library/Fonts/STHeiti Light.ttc", 1),
    ("C:/Windows/Fonts/msyh.ttc", 0),
    ("C:/Windows/Fonts/msyh.ttf", 0),
    ("C:/Windows/Fonts/simsun.ttc", 0),
];

/// Gives the window its fonts.
pub fn install(ctx: &Context) {
    let mut fonts = FontDefinitions::default();
    fonts.font_data.insert("regular".into(), Arc::new(FontData::from_static(REGULAR)));
    fonts.font_data.insert("bold".into(), Arc::new(FontData::from_static(BOLD)));
    let defaults = fonts.families.get(&FontFamily::Proportional).cloned().unwrap_or_default();
    let headed_by = |first: &[&str]| first.iter().map(|name| (*name).to_owned()).chain(defaults.clone()).collect();
    fonts.families.insert(FontFamily::Proportional, headed_by(&["regular"]));
    fonts.families.insert(super::theme::bold(), headed_by(&["bold", "regular"]));
    fonts.families.entry(FontFamily::Monospace).or_default().push("regular".into());
    ctx.set_fonts(fonts);
    ctx.add_font_provider(Arc::new(SystemFont::default()));
}

/// The system's Chinese font, read when it is first needed: it is large, and most conversations never need it.
#[derive(Default)]
struct SystemFont(OnceLock<Option<FontData>>);

impl FontProvider for SystemFont {
    fn font_for(&self, request: &FallbackRequest<'_>) -> Option<FontInsert> {
        if !request.cluster.chars().next().is_some_and(is_east_asian) {
            return None;
        }
        let data =
            self.0.get_or_init(|| read_first(SYSTEM_FONTS.iter().map(|(path, face)| (PathBuf::from(path), *face))));
        let family = InsertFontFamily { family: request.family.clone(), priority: FontPriority::Lowest };
        Some(FontInsert { name: "system".into(), data: data.clone()?, families: vec![family] })
    }
}

/// Han, kana, hangul, bopomofo, their punctuation and wide forms.
fn is_east_asian(c: char) -> bool {
    matches!(u32::from(c), 0x1100..=0x11FF | 0x2E80..=0xA4CF | 0xAC00..=0xD7FF | 0xF900..=0xFAFF | 0xFE30..=0xFE4F
        | 0xFF00..=0xFFEF | 0x2_0000..=0x3_FFFF)
}

/// The first of the files that is there.
fn read_first(mut candidates: impl Iterator<Item = (PathBuf, u32)>) -> Option<FontData> {
    candidates.find_map(|(path, face)| read_font(&path, face))
}

fn read_font(path: &Path, face: u32) -> Option<FontData> {
    let bytes = std::fs::read(path).ok()?;
    let mut data = FontData::from_owned(bytes);
    data.index = face;
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_is_there_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("there.ttc");
        std::fs::write(&there, b"font").unwrap();
        let candidates = [(folder.path().join("gone.ttc"), 0), (there, 3), (folder.path().join("later.ttc"), 0)];
        let data = read_first(candidates.into_iter()).unwrap();
        assert_eq!((data.bytes(), data.index), (b"font".as_slice(), 3));
    }

    #[test]
    fn only_east_asian_characters_wake_the_large_font() {
        assert!("龘가あ，𠀀".chars().all(is_east_asian));
        assert!(!"aé→🙂عא".chars().any(is_east_asian));
    }
}
