//! Relationship fields: `Depends`, `Provides`, `Conflicts` and their kin (deb-control(5), Debian Policy chapter 7).
//!
//! Build profiles (`<!nocheck>`) belong to source packages only and are refused.

use std::fmt;

use super::version::Version;
use crate::arch::Arch;

/// More relations in one field than any package has; linux-image has 3,000 bytes of them.
const FIELD_LIMIT: usize = 256 << 10;

/// How a version must stand to the one in the relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Operator {
    fn text(self) -> &'static str {
        match self {
            Operator::Earlier => "<<",
            Operator::EarlierOrEqual => "<=",
            Operator::Equal => "=",
            Operator::LaterOrEqual => ">=",
            Operator::Later => ">>",
        }
    }

    /// Whether `version` stands to `bound` as the operator says.
    pub fn holds(self, version: &Version, bound: &Version) -> bool {
        match self {
            Operator::Earlier => version < bound,
            Operator::EarlierOrEqual => version <= bound,
            Operator::Equal => version == bound,
            Operator::LaterOrEqual => version >= bound,
            Operator::Later => version > bound,
        }
    }
}

/// One package name with its constraints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The package, real or virtual.
    pub name: Box<str>,
    /// What its version must be.
    pub version: Option<(Operator, Version)>,
}

impl Relation {
    /// Whether a version of the named package is meant.
    pub fn accepts(&self, version: &Version) -> bool {
        self.version.as_ref().is_none_or(|(operator, bound)| operator.holds(version, bound))
    }

    /// Whether a `Provides` of this name, with or without a version, is meant. One without a version satisfies only
    /// relations without one (Debian Policy 7.5).
    pub fn accepts_provided(&self, version: Option<&Version>) -> bool {
        match (&self.version, version) {
            (None, _) => true,
            (Some((operator, bound)), Some(version)) => operator.holds(version, bound),
            (Some(_), None) => false,
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.version {
            Some((operator, version)) => write!(f, " ({} {version})", operator.text()),
            None => Ok(()),
        }
    }
}

/// Alternatives, of which one must hold: `a | b (>= 2)`.
pub type Alternatives = Vec<Relation>;

/// Alternatives as they are written.
pub struct ShowAlternatives<'a>(pub &'a [Relation]);

impl fmt::Debug for ShowAlternatives<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ShowAlternatives<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, relation) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{relation}")?;
        }
        Ok(())
    }
}

/// Reads a relationship field. Relations restricted to other architectures are left out.
pub fn parse(field: &str, arch: Arch) -> Result<Vec<Alternatives>, String> {
    if field.len() > FIELD_LIMIT {
        return Err(format!("a relationship field of {} bytes, more than {FIELD_LIMIT}", field.len()));
    }
    let mut groups = Vec::new();
    for group in field.split(',').map(str::trim).filter(|group| !group.is_empty()) {
        let mut alternatives = Vec::new();
        for text in group.split('|') {
            alternatives.extend(parse_relation(text.trim(), arch)?);
        }
        if !alternatives.is_empty() {
            groups.push(alternatives);
        }
    }
    Ok(groups)
}

/// Reads one relation; `None` if it is meant for other architectures.
fn parse_relation(text: &str, arch: Arch) -> Result<Option<Relation>, String> {
    let wrong = |what: &str| format!("\"{}\" is not a package relation: {what}", text.escape_debug());
    let end = text.find(|c: char| c.is_whitespace() || "([<".contains(c)).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let (name, qualifier) = name.split_once(':').unwrap_or((name, "any"));
    if !is_package_name(name) {
        return Err(wrong("it does not start with a package name"));
    }
    let mut relation = Relation { name: name.into(), version: None };
    // Only one architecture is ever installed, so `:any` and the architecture's own name mean the package itself.
    let mut wanted = qualifier == "any" || qualifier == arch.name();
    rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('(') {
        let (inner, after) = inner.split_once(')').ok_or_else(|| wrong("a bracket is not closed"))?;
        relation.version = Some(parse_constraint(inner.trim()).map_err(|what| wrong(&what))?);
        rest = after.trim_start();
    }
    if let Some(inner) = rest.strip_prefix('[') {
        let (inner, after) = inner.split_once(']').ok_or_else(|| wrong("a bracket is not closed"))?;
        wanted &= applies(inner, arch);
        rest = after.trim_start();
    }
    if !rest.is_empty() {
        return Err(wrong("something unknown stands at the end"));
    }
    Ok(Some(relation).filter(|_| wanted))
}

fn parse_constraint(text: &str) -> Result<(Operator, Version), String> {
    let end = text.find(|c| !"<=>".contains(c)).unwrap_or(text.len());
    let (operator, version) = text.split_at(end);
    let operator = match operator {
        "<<" => Operator::Earlier,
        // `<` and `>` are obsolete and mean "or equal" (Debian Policy 7.1).
        "<=" | "<" => Operator::EarlierOrEqual,
        "=" => Operator::Equal,
        ">=" | ">" => Operator::LaterOrEqual,
        ">>" => Operator::Later,
        _ => return Err("the version has no operator of << <= = >= >>".to_string()),
    };
    Ok((operator, Version::parse(version.trim())?))
}

/// Whether a list of architectures (`amd64 linux-any`, or `!arm64`) includes this one.
fn applies(list: &str, arch: Arch) -> bool {
    let matches = |name: &str| {
        matches!(name, "any" | "linux-any") || name == arch.name() || name.strip_prefix("any-") == Some(arch.name())
    };
    let mut names = list.split_whitespace().peekable();
    if names.peek().is_some_and(|name| name.starts_with('!')) {
        names.all(|name| !matches(name.trim_start_matches('!')))
    } else {
        names.any(matches)
    }
}

/// Lower-case letters, digits, `+`, `-`, `.`; starts with a letter or digit (Debian Policy 5.6.1). Upper case is met
/// in third parties' archives only.
pub fn is_package_name(name: &str) -> bool {
    name.len() < 256
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(field: &str, arch: Arch) -> String {
        let groups = parse(field, arch).unwrap();
        groups.iter().map(|group| ShowAlternatives(group).to_string()).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn fields_are_read() {
        let field =
            "libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0,python3:any(<<4) , a [amd64 i386], b [!amd64] | c,";
        assert_eq!(shown(field, Arch::Amd64), "libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0, python3 (<< 4), a, c");
        assert_eq!(shown(field, Arch::Arm64), "libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0, python3 (<< 4), b | c");
        assert_eq!(shown("x:arm64, y:amd64, z [linux-any], w [any-arm64]", Arch::Arm64), "x, z, w");
        assert_eq!(shown("", Arch::Amd64), "");
        assert_eq!(shown("a\n , b (= 1:2-3)", Arch::Amd64), "a, b (= 1:2-3)");
    }

    #[test]
    fn nonsense_is_refused() {
        for field in ["A", "a (1)", "a (>= )", "a (>= 1", "a [amd64", "a b", "a <!nocheck>", "(>= 1)", "a |"] {
            assert!(parse(field, Arch::Amd64).is_err(), "{field}");
        }
    }

    #[test]
    fn provides_without_a_version_satisfy_no_constraint() {
        let relations = parse("a (>= 1), a", Arch::Amd64).unwrap();
        let version = Version::parse("2").unwrap();
        assert!(!relations[0][0].accepts_provided(None));
        assert!(relations[0][0].accepts_provided(Some(&version)));
        assert!(relations[1][0].accepts_provided(None));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(field in "\\PC{0,80}") {
            let _ = parse(&field, Arch::Amd64);
        }
    }
}
