//! Tokens, one a line.

use offtake_protocol::rest::{Role, TokenView};

use super::figures::instant;
use crate::terminal::{Align, listing};

const COLUMNS: [(&str, Align); 4] =
    [("name", Align::Left), ("role", Align::Left), ("runs as", Align::Left), ("expires", Align::Left)];

/// A table of tokens.
pub fn tokens(tokens: &[TokenView], width: Option<usize>) -> String {
    let row = |token: &TokenView| {
        let role = match &token.role {
            Role::Operator => "operator".to_owned(),
            Role::Member { tenant } => format!("member of {tenant}"),
            Role::Reader => "reader".to_owned(),
        };
        let user = token.user.clone().unwrap_or_else(|| "–".to_owned());
        vec![token.name.clone(), role, user, token.expires_ms.map_or_else(|| "never".to_owned(), instant)]
    };
    listing(&COLUMNS, &tokens.iter().map(row).collect::<Vec<_>>(), width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples::NOW;

    #[test]
    fn each_role() {
        let token = |name: &str, role| TokenView { name: name.to_owned(), role, user: None, expires_ms: None };
        let listed = [
            token("root", Role::Operator),
            TokenView {
                user: Some("ada".to_owned()),
                expires_ms: Some(NOW),
                ..token("ci", Role::Member { tenant: "research/nlp".to_owned() })
            },
            token("wall", Role::Reader),
        ];
        insta::assert_snapshot!(tokens(&listed, None));
    }
}
