-- Schema 2 of the broker's database. Times are seconds since 1970.

CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,
    nonce      TEXT NOT NULL UNIQUE,
    tee        TEXT NOT NULL,
    issued_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER,
    attempts   INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE secrets (
    resource   TEXT PRIMARY KEY,
    version    INTEGER NOT NULL,
    iv         BLOB NOT NULL,
    ciphertext BLOB NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Each row's hash covers its content and the hash of the row before.
CREATE TABLE decisions (
    seq            INTEGER PRIMARY KEY,
    time           INTEGER NOT NULL,
    kind           TEXT NOT NULL,
    agent          TEXT NOT NULL,
    instance       INTEGER NOT NULL,
    agent_key      TEXT NOT NULL,
    resource       TEXT NOT NULL,
    secret_version INTEGER NOT NULL,
    decision       TEXT NOT NULL,
    rule           TEXT NOT NULL,
    expected       TEXT NOT NULL,
    found          TEXT NOT NULL,
    policy_id      TEXT NOT NULL,
    standing       TEXT NOT NULL,
    composition    TEXT NOT NULL,
    nonce          TEXT NOT NULL,
    previous       TEXT NOT NULL,
    hash           TEXT NOT NULL
) STRICT;
-- What was last done to a secret: asked at each release.
CREATE INDEX decisions_of_secrets ON decisions (resource, seq) WHERE kind = 'secret';

-- Where the chain ends, so that rows missing at its end show.
CREATE TABLE decisions_head (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    seq  INTEGER NOT NULL,
    hash TEXT NOT NULL
) STRICT;

CREATE TRIGGER decisions_append BEFORE INSERT ON decisions
WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM decisions)
BEGIN SELECT RAISE(ABORT, 'decisions are appended only'); END;
CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are appended only'); END;
CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are appended only'); END;
CREATE TRIGGER decisions_head_no_delete BEFORE DELETE ON decisions_head
BEGIN SELECT RAISE(ABORT, 'decisions are appended only'); END;
