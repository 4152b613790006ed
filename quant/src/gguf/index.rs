//! Finding things by name without a second copy of the names.

/// The order of a list's items by name.
#[derive(Clone, Debug)]
pub(super) struct NameIndex(Vec<usize>);

impl NameIndex {
    /// Sorts `items` by name. An error is the index of an item whose name another one has too.
    pub fn new<T>(items: &[T], name: impl Fn(&T) -> &str) -> Result<NameIndex, usize> {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by(|&a, &b| name(&items[a]).cmp(name(&items[b])));
        match order.windows(2).find(|pair| name(&items[pair[0]]) == name(&items[pair[1]])) {
            Some(pair) => Err(pair[1]),
            None => Ok(NameIndex(order)),
        }
    }

    /// The item called `wanted` in the list that the index was made of.
    pub fn find<'t, T>(&self, items: &'t [T], name: impl Fn(&T) -> &str, wanted: &str) -> Option<&'t T> {
        let found = self.0.binary_search_by(|&i| name(&items[i]).cmp(wanted)).ok()?;
        Some(&items[self.0[found]])
    }
}
