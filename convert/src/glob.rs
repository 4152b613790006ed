//! Shell patterns over tensor names: `*` any text, `?` any character.

/// Whether `pattern` fits the whole of `name`. Linear in practice: on a mismatch only the last `*` takes more.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut i, mut j) = (0, 0);
    let mut star = None; // position behind the last `*`, and where its text ends so far
    while j < n.len() {
        match p.get(i) {
            Some('*') => {
                i += 1;
                star = Some((i, j));
            }
            Some(&c) if c == '?' || c == n[j] => {
                i += 1;
                j += 1;
            }
            _ => {
                let Some((after, end)) = star else { return false };
                star = Some((after, end + 1));
                (i, j) = (after, end + 1);
            }
        }
    }
    p[i..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("blk.*.ffn_down*", "blk.12.ffn_down_exps.weight", true),
            ("blk.?.attn_v.weight", "blk.3.attn_v.weight", true),
            ("blk.?.attn_v.weight", "blk.13.attn_v.weight", false),
            ("output.weight", "output.weight", true),
            ("output", "output.weight", false),
            ("*a*b*c", "xxaxbxbxc", true),
            ("*a*b*c", "xxaxbxbxcd", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
