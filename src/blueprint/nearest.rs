//! "Did you mean": the nearest of a few known words.

/// Words longer than this are not compared: nobody means them, and the work grows with the square.
const LONGEST: usize = 64;

/// The known word that `written` most likely stands for, if one is near enough: at most a third of its letters off,
/// ignoring upper and lower case first. The first of equals wins.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written: Vec<char> = written.chars().flat_map(char::to_lowercase).take(LONGEST + 1).collect();
    if written.is_empty() || written.len() > LONGEST {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for word in known {
        let letters: Vec<char> = word.chars().flat_map(char::to_lowercase).take(LONGEST).collect();
        let distance = distance(&written, &letters);
        let limit = (written.len().max(letters.len()) / 3).max(1);
        if distance <= limit && best.is_none_or(|(nearest, _)| distance < nearest) {
            best = Some((distance, word));
        }
    }
    best.map(|(_, word)| word)
}

/// Insertions, deletions, replacements and swaps of neighbours from one word to the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut cost = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from[i - 1] == *b && *a == to[j - 1] {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let known = ["command", "capabilities", "cwd", "env", "binds", "readonly"];
        assert_eq!(nearest("comand", known), Some("command"));
        assert_eq!(nearest("cmomand", known), Some("command"));
        assert_eq!(nearest("readOnly", known), Some("readonly"));
        assert_eq!(nearest("bind", known), Some("binds"));
        assert_eq!(nearest("entrypoint", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"c".repeat(1_000_000), known), None);
    }
}
