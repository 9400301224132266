//! The labels of tokens, as they are compared: by NFKC with full case folding.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use sqlx::types::Json;

use crate::db::one_row;
use crate::domain::values::ids::{OrgId, TokenId};
use crate::domain::values::text::folded;
use crate::error::Result;

/// Labels, by which users and programs find tokens.
pub type Labels = BTreeMap<String, String>;

/// Labels with folded values: the same for labels that are equal when they are compared.
pub(super) fn compared(labels: &Labels) -> Labels {
    labels.iter().map(|(key, value)| (key.clone(), folded(value))).collect()
}

/// Stores the compared form of the labels of a token, which was just written, unless it is the same.
pub(super) async fn store(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_id: TokenId,
    labels: &Labels,
) -> Result<()> {
    let compared = compared(labels);
    let query = sqlx::query!(
        "update tokens set folded_labels = $3 where org_id = $1 and token_id = $2",
        org_id.uuid(),
        token_id.uuid(),
        (compared != *labels).then_some(Json(compared)) as _
    );
    one_row(&query.execute(tx).await?, "storing the labels of a token")
}
