//! The blueprint over the label, value by value.

use crate::blueprint::{Settings, Spanned, Value};

/// Two places that may say something.
#[derive(Clone, Copy, Debug)]
pub struct Precedence<'a> {
    /// Says what the blueprint does not.
    pub label: Option<&'a Settings>,
    /// Is asked first.
    pub blueprint: &'a Settings,
}

impl<'a> Precedence<'a> {
    /// The blueprint's value, else the label's. An empty list is a value.
    pub fn first<T>(self, get: impl Fn(&'a Settings) -> &'a Option<T>) -> Option<&'a T> {
        get(self.blueprint).as_ref().or_else(|| self.label.and_then(|label| get(label).as_ref()))
    }

    /// The same for text, of which an empty one is no value.
    pub fn text(self, get: impl Fn(&'a Settings) -> &'a Option<Spanned<String>>) -> Option<&'a str> {
        let full =
            |settings: &'a Settings| get(settings).as_ref().map(|text| text.as_str()).filter(|text| !text.is_empty());
        full(self.blueprint).or_else(|| self.label.and_then(full))
    }

    /// The same for truth values, which are false by default.
    pub fn truth(self, get: impl Fn(&'a Settings) -> &'a Option<Spanned<bool>>) -> bool {
        self.first(get).is_some_and(|value| value.value)
    }

    /// A list, empty by default.
    pub fn list<T>(self, get: impl Fn(&'a Settings) -> &'a Option<Vec<T>>) -> &'a [T] {
        self.first(get).map_or(&[], Vec::as_slice)
    }

    /// The texts of a list, or nothing if it is empty.
    pub fn texts(self, get: impl Fn(&'a Settings) -> &'a Option<Vec<Spanned<String>>>) -> Option<Value> {
        let list = self.list(get);
        (!list.is_empty()).then(|| Value::texts(list))
    }

    /// A list that the blueprint may replace (`set`) or add to (`add`): the label's with the additions, each once, unless
    /// the blueprint sets it.
    ///
    /// LinuxKit means to drop what is there twice, but does not.
    pub fn added<T: PartialEq>(
        self,
        set: impl Fn(&'a Settings) -> &'a Option<Vec<T>>,
        add: impl Fn(&'a Settings) -> &'a Option<Vec<T>>,
    ) -> Vec<&'a T> {
        if let Some(list) = set(self.blueprint) {
            return list.iter().collect();
        }
        let mut all: Vec<&'a T> = Vec::new();
        let label = self.label.and_then(|label| set(label).as_ref());
        for value in label.into_iter().chain(add(self.blueprint)).flatten() {
            if !all.contains(&value) {
                all.push(value);
            }
        }
        all
    }
}

/// Pairs as a map, in the order of the keys: the files must not depend on the order in a label that a program wrote.
pub fn pairs(pairs: &[(Spanned<String>, Spanned<String>)]) -> Value {
    let mut sorted: Vec<(String, Value)> =
        pairs.iter().map(|(key, value)| (key.value.clone(), Value::text(value.as_str()))).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Map(sorted)
}
