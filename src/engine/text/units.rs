//! The signs of units and currencies, and what they are called in English and Chinese.
//!
//! Pure tables. Signs that are ordinary words too (`in`, `a`) count only when they touch the number.

/// A unit: its sign, one and several of it in English, and its Chinese name.
pub struct Unit {
    pub sign: &'static str,
    pub one: &'static str,
    pub many: &'static str,
    pub chinese: &'static str,
    /// Whether a space may stand between number and sign.
    pub apart: bool,
}

const fn unit(sign: &'static str, one: &'static str, many: &'static str, chinese: &'static str) -> Unit {
    Unit { sign, one, many, chinese, apart: true }
}

const fn close(sign: &'static str, one: &'static str, many: &'static str, chinese: &'static str) -> Unit {
    Unit { sign, one, many, chinese, apart: false }
}

/// Every unit. Where one sign begins another, the longer is found first by [`find`].
pub const UNITS: &[Unit] = &[
    unit("km/h", "kilometer per hour", "kilometers per hour", "公里每小时"),
    unit("kph", "kilometer per hour", "kilometers per hour", "公里每小时"),
    unit("mph", "mile per hour", "miles per hour", "英里每小时"),
    unit("km/s", "kilometer per second", "kilometers per second", "公里每秒"),
    unit("m/s", "meter per second", "meters per second", "米每秒"),
    unit("km²", "square kilometer", "square kilometers", "平方公里"),
    unit("km2", "square kilometer", "square kilometers", "平方公里"),
    unit("m²", "square meter", "square meters", "平方米"),
    unit("m2", "square meter", "square meters", "平方米"),
    unit("m³", "cubic meter", "cubic meters", "立方米"),
    unit("cm²", "square centimeter", "square centimeters", "平方厘米"),
    unit("cm³", "cubic centimeter", "cubic centimeters", "立方厘米"),
    unit("sq ft", "square foot", "square feet", "平方英尺"),
    unit("sq mi", "square mile", "square miles", "平方英里"),
    unit("km", "kilometer", "kilometers", "公里"),
    unit("cm", "centimeter", "centimeters", "厘米"),
    unit("mm", "millimeter", "millimeters", "毫米"),
    unit("nm", "nanometer", "nanometers", "纳米"),
    unit("µm", "micrometer", "micrometers", "微米"),
    unit("μm", "micrometer", "micrometers", "微米"),
    unit("m", "meter", "meters", "米"),
    unit("ft", "foot", "feet", "英尺"),
    unit("yd", "yard", "yards", "码"),
    unit("mi", "mile", "miles", "英里"),
    close("in", "inch", "inches", "英寸"),
    close("\"", "inch", "inches", "英寸"),
    unit("kg", "kilogram", "kilograms", "千克"),
    unit("mg", "milligram", "milligrams", "毫克"),
    unit("µg", "microgram", "micrograms", "微克"),
    unit("g", "gram", "grams", "克"),
    unit("lbs", "pound", "pounds", "磅"),
    unit("lb", "pound", "pounds", "磅"),
    unit("oz", "ounce", "ounces", "盎司"),
    unit("ml", "milliliter", "milliliters", "毫升"),
    unit("mL", "milliliter", "milliliters", "毫升"),
    unit("L", "liter", "liters", "升"),
    unit("l", "liter", "liters", "升"),
    unit("tbsp", "tablespoon", "tablespoons", "汤匙"),
    unit("tsp", "teaspoon", "teaspoons", "茶匙"),
    unit("hrs", "hour", "hours", "小时"),
    unit("hr", "hour", "hours", "小时"),
    unit("h", "hour", "hours", "小时"),
    unit("mins", "minute", "minutes", "分钟"),
    unit("min", "minute", "minutes", "分钟"),
    unit("secs", "second", "seconds", "秒"),
    unit("sec", "second", "seconds", "秒"),
    unit("ms", "millisecond", "milliseconds", "毫秒"),
    unit("s", "second", "seconds", "秒"),
    unit("°C", "degree Celsius", "degrees Celsius", "摄氏度"),
    unit("℃", "degree Celsius", "degrees Celsius", "摄氏度"),
    unit("°F", "degree Fahrenheit", "degrees Fahrenheit", "华氏度"),
    unit("℉", "degree Fahrenheit", "degrees Fahrenheit", "华氏度"),
    unit("°", "degree", "degrees", "度"),
    unit("GHz", "gigahertz", "gigahertz", "吉赫兹"),
    unit("MHz", "megahertz", "megahertz", "兆赫兹"),
    unit("kHz", "kilohertz", "kilohertz", "千赫兹"),
    unit("Hz", "hertz", "hertz", "赫兹"),
    unit("dB", "decibel", "decibels", "分贝"),
    unit("kWh", "kilowatt hour", "kilowatt hours", "千瓦时"),
    unit("kW", "kilowatt", "kilowatts", "千瓦"),
    unit("MW", "megawatt", "megawatts", "兆瓦"),
    unit("GW", "gigawatt", "gigawatts", "吉瓦"),
    unit("W", "watt", "watts", "瓦"),
    unit("V", "volt", "volts", "伏"),
    close("A", "ampere", "amperes", "安"),
    unit("kJ", "kilojoule", "kilojoules", "千焦"),
    unit("kcal", "kilocalorie", "kilocalories", "千卡"),
    unit("TB", "terabyte", "terabytes", "太字节"),
    unit("GB", "gigabyte", "gigabytes", "吉字节"),
    unit("MB", "megabyte", "megabytes", "兆字节"),
    unit("KB", "kilobyte", "kilobytes", "千字节"),
    unit("kB", "kilobyte", "kilobytes", "千字节"),
    unit("Mbps", "megabit per second", "megabits per second", "兆比特每秒"),
    unit("Gbps", "gigabit per second", "gigabits per second", "吉比特每秒"),
    unit("rpm", "revolution per minute", "revolutions per minute", "转每分钟"),
    unit("fps", "frame per second", "frames per second", "帧每秒"),
    unit("bpm", "beat per minute", "beats per minute", "次每分钟"),
];

/// The unit whose sign `rest` begins with (a space before it allowed where the unit says so) and how many bytes it takes.
pub fn find(rest: &str) -> Option<(&'static Unit, usize)> {
    let trimmed = rest.strip_prefix([' ', '\u{a0}', '\u{202f}']).unwrap_or(rest);
    let gap = rest.len() - trimmed.len();
    let fits = |u: &&Unit| {
        let after = trimmed.strip_prefix(u.sign).and_then(|r| r.chars().next());
        let ends = !after.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '²' | '³' | '/' | '\''));
        trimmed.starts_with(u.sign) && ends && (gap == 0 || u.apart)
    };
    UNITS.iter().filter(fits).max_by_key(|u| u.sign.len()).map(|u| (u, gap + u.sign.len()))
}

/// A currency: its sign and code, one and several, one and several of the hundredth part (empty: it has none), and its
/// Chinese name.
pub struct Currency {
    pub signs: &'static [&'static str],
    pub one: &'static str,
    pub many: &'static str,
    pub cent: &'static str,
    pub cents: &'static str,
    pub chinese: &'static str,
}

pub const CURRENCIES: &[Currency] = &[
    Currency {
        signs: &["US$", "USD", "$"],
        one: "dollar",
        many: "dollars",
        cent: "cent",
        cents: "cents",
        chinese: "美元",
    },
    Currency { signs: &["€", "EUR"], one: "euro", many: "euros", cent: "cent", cents: "cents", chinese: "欧元" },
    Currency { signs: &["£", "GBP"], one: "pound", many: "pounds", cent: "penny", cents: "pence", chinese: "英镑" },
    Currency { signs: &["JPY", "JP¥"], one: "yen", many: "yen", cent: "", cents: "", chinese: "日元" },
    Currency { signs: &["CNY", "RMB", "CN¥"], one: "yuan", many: "yuan", cent: "", cents: "", chinese: "元" },
    Currency { signs: &["₹", "INR"], one: "rupee", many: "rupees", cent: "", cents: "", chinese: "卢比" },
];

/// `¥` alone: yen in English, yuan in Chinese.
pub const YEN_SIGNS: [&str; 2] = ["¥", "￥"];

/// The currency whose sign or code `rest` begins with, and how many bytes that takes.
pub fn find_currency(rest: &str, yen: &str) -> Option<(&'static Currency, usize)> {
    if let Some(sign) = YEN_SIGNS.iter().find(|s| rest.starts_with(**s)) {
        return CURRENCIES.iter().find(|c| c.one == yen).map(|c| (c, sign.len()));
    }
    CURRENCIES.iter().find_map(|c| {
        let sign = c.signs.iter().find(|s| rest.starts_with(**s))?;
        let code = sign.ends_with(|c: char| c.is_ascii_alphabetic());
        let glued = rest[sign.len()..].starts_with(|c: char| c.is_ascii_alphabetic());
        (!(code && glued)).then_some((c, sign.len()))
    })
}
