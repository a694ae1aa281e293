//! Written and spoken, side by side. Plain numbers are checked against independent packages
//! (`tests/fixtures/speakable_numbers.py`), everything else against how it is said.

use super::*;

const NUMBERS: &str = include_str!("../../../tests/fixtures/speakable_numbers.tsv");

#[test]
fn numbers_are_what_num2words_and_cn2an_say() {
    let wrong: Vec<String> = NUMBERS
        .lines()
        .filter_map(|row| row.split_once('\t'))
        .filter(|(written, spoken)| speakable(written) != *spoken)
        .map(|(written, spoken)| format!("{written}: {}, not {spoken}", speakable(written)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(NUMBERS.lines().count(), 101);
}

fn check(rows: &[(&str, &str)]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter(|(written, spoken)| speakable(written) != *spoken)
        .map(|(written, spoken)| format!("{written:?}: {:?}, not {spoken:?}", speakable(written)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn money_and_percent() {
    check(&[
        ("It costs $5 million.", "It costs five million dollars."),
        ("about $2.5bn a year", "about two point five billion dollars a year"),
        ("$5-10 each", "five to ten dollars each"),
        ("That is €20.", "That is twenty euros."),
        ("£1.50 please", "one pound and fifty pence please"),
        ("¥500", "five hundred yen"),
        ("20 EUR or 30 GBP", "twenty euros or thirty pounds"),
        ("USD 5", "five dollars"),
        ("$0.99", "ninety-nine cents"),
        ("-$40", "minus forty dollars"),
        ("up 5%", "up five percent"),
        ("2.5 % of it", "two point five percent of it"),
        ("10-20%", "ten to twenty percent"),
    ]);
}

#[test]
fn dates_times_and_years() {
    check(&[
        ("on June 5, 2024, we met", "on June fifth, twenty twenty-four, we met"),
        ("May 3rd", "May third"),
        ("Jan. 1", "January first"),
        ("in June 2024", "in June twenty twenty-four"),
        ("5 June 2024", "the fifth of June, twenty twenty-four"),
        ("2024-05-06", "May sixth, twenty twenty-four"),
        ("12/25/2023", "December twenty-fifth, twenty twenty-three"),
        ("31/12/1999", "December thirty-first, nineteen ninety-nine"),
        ("1939-1945", "nineteen thirty-nine to nineteen forty-five"),
        ("the 1990s", "the nineteen nineties"),
        ("the '80s", "the eighties"),
        ("at 10:30", "at ten thirty"),
        ("at 5:00 PM.", "at five P M."),
        ("at 9:05 a.m. sharp", "at nine oh five A M sharp"),
        ("by 5pm", "by five P M"),
        ("at 8:00", "at eight o'clock"),
        ("at 15:00", "at fifteen hundred"),
        ("There are 1440 minutes in a day.", "There are one thousand four hundred and forty minutes in a day."),
        ("May 5 people come", "May fifth people come"),
    ]);
}

#[test]
fn units_ranges_and_arithmetic() {
    check(&[
        ("5 km away", "five kilometers away"),
        ("1 kg", "one kilogram"),
        ("It is 25°C.", "It is twenty-five degrees Celsius."),
        ("-40 °F", "minus forty degrees Fahrenheit"),
        ("60 mph", "sixty miles per hour"),
        ("300,000 km/s", "three hundred thousand kilometers per second"),
        ("100 m²", "one hundred square meters"),
        ("6ft 2in", "six feet two inches"),
        ("16 GB", "sixteen gigabytes"),
        ("7-10 minutes", "seven to ten minutes"),
        ("3–5 kg", "three to five kilograms"),
        ("add 1/2 cup", "add one half cup"),
        ("3/4 of it", "three quarters of it"),
        ("1 1/2 cups", "one and a half cups"),
        ("2½ cups", "two and a half cups"),
        ("3 x 4 = 12", "three times four equals twelve"),
        ("3*4", "three times four"),
        ("2 + 2 = 4", "two plus two equals four"),
        ("5 - 3 = 2", "five minus three equals two"),
        ("10 / 2 = 5", "ten divided by two equals five"),
        ("2^10", "two to the power of ten"),
        ("x² + 1", "x squared plus one"),
        ("3x faster", "three times faster"),
        ("1920x1080", "nineteen twenty by one thousand and eighty"),
        ("16:9", "sixteen to nine"),
        ("a 5-year-old child", "a five-year-old child"),
        ("10k steps", "ten thousand steps"),
        ("3 million people", "three million people"),
        ("6 < 7", "six is less than seven"),
    ]);
}

#[test]
fn codes_and_telephone_numbers() {
    check(&[
        ("Call 555-1234.", "Call five five five, one two three four."),
        ("(555) 123-4567", "five five five, one two three, four five six seven"),
        ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight"),
        ("agent 007", "agent zero zero seven"),
        ("version 1.2.3", "version one point two point three"),
        ("24/7", "twenty-four seven"),
        ("COVID-19", "COVID nineteen"),
        ("H2O", "H two O"),
        ("a 5G phone", "a five G phone"),
        ("#3 on the list", "number three on the list"),
        ("No. 5", "number five"),
        ("No. I will not.", "No. I will not."),
    ]);
}

#[test]
fn abbreviations_reigns_and_symbols() {
    check(&[
        ("Dr. Smith and Mr. Jones", "Doctor Smith and Mister Jones"),
        ("fruit, e.g. apples", "fruit, for example apples"),
        ("i.e. never", "that is never"),
        ("apples, pears, etc.", "apples, pears, et cetera."),
        ("St. Louis and Main St. are far", "Saint Louis and Main Street are far"),
        ("the U.S. economy", "the U S economy"),
        ("cats vs. dogs", "cats versus dogs"),
        ("World War II ended", "World War two ended"),
        ("Henry VIII had six wives", "Henry the eighth had six wives"),
        ("Vitamin I need", "Vitamin I need"),
        ("salt & pepper", "salt and pepper"),
        ("he/she and/or they", "he or she and or they"),
        ("me@example.com", "me at example dot com"),
        ("See https://www.example.com/docs?x=1.", "See example dot com slash docs."),
        ("Visit example.com.", "Visit example dot com."),
        ("Node.js is a runtime", "Node dot js is a runtime"),
        ("wait — no", "wait, no"),
        ("the dog (a collie) barked", "the dog, a collie, barked"),
        ("“Quoted” words", "Quoted words"),
        ("it's the dogs' bowl", "it's the dogs' bowl"),
    ]);
}

#[test]
fn markdown_and_emoji_go() {
    check(&[
        ("**Paris** is *the* capital.", "Paris is the capital."),
        ("## The Sky", "The Sky"),
        ("- apples\n- pears\n", "apples, pears,"),
        ("1. Boil water.\n2. Add the egg.", "one. Boil water. two. Add the egg."),
        ("Use `print` here", "Use print here"),
        ("[the docs](https://example.com/a/b) say", "the docs say"),
        ("Great! 😀🎉", "Great!"),
        ("snake_case and __bold__", "snake case and bold"),
        ("> quoted", "quoted"),
        ("---", ""),
        ("😀", ""),
        ("\\(3 \\times 4\\)", "three times four"),
    ]);
}

#[test]
fn chinese() {
    check(&[
        ("我今年23岁。", "我今年二十三岁。"),
        ("2024年5月6日", "二零二四年五月六日"),
        ("今天是2024-05-06。", "今天是二零二四年五月六日。"),
        ("上午10:30开会", "上午十点三十分开会"),
        ("下午2:05", "下午两点零五分"),
        ("增长了12.5%", "增长了百分之十二点五"),
        ("一共¥100", "一共一百元"),
        ("价格是$5", "价格是五美元"),
        ("还要2个苹果", "还要两个苹果"),
        ("第2个", "第二个"),
        ("距离5km", "距离五公里"),
        ("重2kg", "重两千克"),
        ("气温-5°C", "气温零下五摄氏度"),
        ("气温25℃", "气温二十五摄氏度"),
        ("需要3-5天", "需要三到五天"),
        ("占1/3", "占三分之一"),
        ("电话13800138000", "电话幺三八零零幺三八零零零"),
        ("3 + 4 = 7，对吗", "三 加 四 等于 七，对吗"),
        ("人口约1400000000", "人口约十四亿"),
        ("**北京**是首都。", "北京是首都。"),
    ]);
}

#[test]
fn a_code_fence_and_the_language_outlive_the_clause() {
    let mut s = Speaker::default();
    let mut say = |t: &str| s.clause(t).spoken;
    assert_eq!(say("答案是"), "答案是");
    assert_eq!(say("42。"), "四十二。");
    assert_eq!(say("The answer is"), "The answer is");
    assert_eq!(say("42."), "forty-two.");
    assert_eq!(say("Here:\n```rust\n"), "Here:");
    assert_eq!(say("let x = 1;\n"), "");
    assert_eq!(say("```\nDone."), "Done.");
}

#[test]
fn ordinary_words_stay_as_they_are() {
    for text in [
        "The capital of France is Paris.",
        "Hello! How can I help you today?",
        "It's a well-known, two-sided argument; isn't it?",
        "Why was the math book sad? Because it had too many problems!",
        "你好，很高兴见到你！",
    ] {
        assert_eq!(speakable(text), text);
    }
}

proptest::proptest! {
    /// Whatever is written, nothing panics, and no digit or Markdown mark is left for the voice to stumble over.
    #[test]
    fn anything_can_be_said(text in "[ -~£€½²°–—“”一二年月%℃0-9\\n😀]{0,40}") {
        let spoken = speakable(&text);
        proptest::prop_assert!(!spoken.contains(|c: char| c.is_ascii_digit() || "*`#_|".contains(c)), "{text:?} gave {spoken:?}");
    }
}
