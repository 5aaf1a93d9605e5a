//! Bearer tokens: their digests, and what they open.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, now_ms};
use crate::audit::{Action, Event, OPERATOR};

/// A bearer token, without the token.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// What the operator calls it.
    pub name: String,
    /// Names of scopes with spaces between.
    pub scopes: String,
    /// When it was made.
    pub created_ms: i64,
    /// When it ends; never when `None`.
    pub expires_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
}

impl TokenRow {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: row.try_get("name")?,
            scopes: row.try_get("scopes")?,
            created_ms: row.try_get("created_ms")?,
            expires_ms: row.try_get("expires_ms")?,
            revoked_ms: row.try_get("revoked_ms")?,
        })
    }
}

impl Store {
    /// Adds a token; whether its name was free.
    ///
    /// # Errors
    /// The journal's.
    pub async fn add_token(
        &self,
        name: &str,
        sha256: &[u8; 32],
        scopes: &str,
        expires_ms: Option<i64>,
    ) -> Result<bool, StoreError> {
        let mut batch = self.begin().await?;
        let added = sqlx::query(
            "INSERT INTO token (name, sha256, scopes, created_ms, expires_ms) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(name)
        .bind(sha256.as_slice())
        .bind(scopes)
        .bind(now_ms())
        .bind(expires_ms)
        .execute(&mut *batch.transaction)
        .await?;
        if added.rows_affected() == 0 {
            return Ok(false);
        }
        let (object, detail) = (name.to_owned(), scopes.to_owned());
        batch.audit(&Event { object, detail, ..Event::new(OPERATOR, Action::TokenCreated) }).await?;
        batch.commit().await?;
        Ok(true)
    }

    /// The token with this digest.
    ///
    /// # Errors
    /// The journal's.
    pub async fn token(&self, sha256: &[u8; 32]) -> Result<Option<TokenRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM token WHERE sha256 = ?").bind(sha256.as_slice());
        Ok(query.fetch_optional(&self.pool).await?.as_ref().map(TokenRow::read).transpose()?)
    }

    /// Every token, also those that ended, by age.
    ///
    /// # Errors
    /// The journal's.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM token ORDER BY id").fetch_all(&self.pool).await?;
        Ok(rows.iter().map(TokenRow::read).collect::<Result<_, _>>()?)
    }

    /// Whether a token was ever made.
    ///
    /// # Errors
    /// The journal's.
    pub async fn has_tokens(&self) -> Result<bool, StoreError> {
        Ok(sqlx::query("SELECT 1 FROM token LIMIT 1").fetch_optional(&self.pool).await?.is_some())
    }

    /// Ends a token; whether there was one of this name that was not revoked.
    ///
    /// # Errors
    /// The journal's.
    pub async fn revoke_token(&self, name: &str) -> Result<bool, StoreError> {
        let mut batch = self.begin().await?;
        let revoked = sqlx::query("UPDATE token SET revoked_ms = ? WHERE name = ? AND revoked_ms IS NULL")
            .bind(now_ms())
            .bind(name)
            .execute(&mut *batch.transaction)
            .await?;
        if revoked.rows_affected() == 0 {
            return Ok(false);
        }
        batch.audit(&Event { object: name.to_owned(), ..Event::new(OPERATOR, Action::TokenRevoked) }).await?;
        batch.commit().await?;
        Ok(true)
    }
}
