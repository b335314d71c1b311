CREATE TABLE alembic_version ( version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num) )
CREATE TABLE registry ( id VARCHAR(36) NOT NULL, revision BIGINT NOT NULL, PRIMARY KEY (id) )
CREATE TABLE models ( name VARCHAR(128) NOT NULL, revision BIGINT NOT NULL, settings JSON NOT NULL, PRIMARY KEY (name) )
CREATE TABLE versions ( model VARCHAR(128) NOT NULL, version VARCHAR(64) NOT NULL, digest VARCHAR(80) NOT NULL, size BIGINT NOT NULL, form VARCHAR(8) NOT NULL, files JSON NOT NULL, graph TEXT NOT NULL, config TEXT NOT NULL, created_at VARCHAR(40) NOT NULL, created_by VARCHAR(128) NOT NULL, standing VARCHAR(16) NOT NULL, retired_at FLOAT, metadata JSON NOT NULL, reason TEXT NOT NULL, facts JSON NOT NULL, PRIMARY KEY (model, version) )
CREATE TABLE aliases ( model VARCHAR(128) NOT NULL, alias VARCHAR(64) NOT NULL, version VARCHAR(64) NOT NULL, "before" JSON NOT NULL, PRIMARY KEY (model, alias) )
CREATE TABLE audit ( seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, at VARCHAR(40) NOT NULL, actor VARCHAR(128) NOT NULL, action VARCHAR(40) NOT NULL, model VARCHAR(128) NOT NULL, subject VARCHAR(400) NOT NULL, reason TEXT NOT NULL, "before" JSON, "after" JSON , method VARCHAR(16) DEFAULT '' NOT NULL, key_id VARCHAR(64) DEFAULT '' NOT NULL, address VARCHAR(64) DEFAULT '' NOT NULL, request_id VARCHAR(128) DEFAULT '' NOT NULL, on_behalf_of VARCHAR(128) DEFAULT '' NOT NULL, hash VARCHAR(64) DEFAULT '' NOT NULL)
CREATE TABLE leases ( id VARCHAR(36) NOT NULL, digest VARCHAR(80) NOT NULL, until FLOAT NOT NULL, PRIMARY KEY (id) )
CREATE TABLE condemned ( digest VARCHAR(80) NOT NULL, since FLOAT NOT NULL, PRIMARY KEY (digest) )
CREATE TABLE routes ( model VARCHAR(128) NOT NULL, document JSON NOT NULL, PRIMARY KEY (model) )
CREATE TABLE trials ( id VARCHAR(36) NOT NULL, model VARCHAR(128) NOT NULL, kind VARCHAR(16) NOT NULL, open BOOLEAN NOT NULL, revision BIGINT NOT NULL, created_at VARCHAR(40) NOT NULL, created_by VARCHAR(128) NOT NULL, document JSON NOT NULL, PRIMARY KEY (id) )
CREATE TABLE observations ( trial VARCHAR(36) NOT NULL, gateway VARCHAR(64) NOT NULL, document JSON NOT NULL, PRIMARY KEY (trial, gateway) )
CREATE TABLE events ( seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR(80) NOT NULL, at VARCHAR(40) NOT NULL, type VARCHAR(80) NOT NULL, model VARCHAR(128) NOT NULL, subject VARCHAR(400) NOT NULL, data JSON NOT NULL, UNIQUE (id) )
CREATE TABLE "references" ( model VARCHAR(128) NOT NULL, version VARCHAR(64) NOT NULL, digest VARCHAR(80) NOT NULL, source VARCHAR(16) NOT NULL, document JSON NOT NULL, used_at FLOAT, PRIMARY KEY (model, version) )
CREATE TABLE policies ( model VARCHAR(128) NOT NULL, document JSON NOT NULL, PRIMARY KEY (model) )
CREATE TABLE standings ( model VARCHAR(128) NOT NULL, revision BIGINT NOT NULL, document JSON NOT NULL, PRIMARY KEY (model) )
CREATE TABLE outbox ( seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, event VARCHAR(80) NOT NULL, model VARCHAR(128) NOT NULL, sink VARCHAR(64) NOT NULL, state VARCHAR(16) NOT NULL, attempts INTEGER NOT NULL, created FLOAT NOT NULL, due FLOAT NOT NULL, error TEXT NOT NULL, UNIQUE (event, sink) )
CREATE TABLE audit_archives ( first BIGINT NOT NULL, last BIGINT NOT NULL, first_at VARCHAR(40) NOT NULL, last_at VARCHAR(40) NOT NULL, entries INTEGER NOT NULL, digest VARCHAR(80) NOT NULL, size BIGINT NOT NULL, dropped_at FLOAT, link VARCHAR(64) DEFAULT '' NOT NULL, nodes JSON DEFAULT '[]' NOT NULL, PRIMARY KEY (first) )
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit WHEN NOT EXISTS (SELECT 1 FROM audit_archives WHERE OLD.seq BETWEEN first AND last) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
CREATE TRIGGER audit_archives_no_delete BEFORE DELETE ON audit_archives BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
CREATE TABLE counts ( model VARCHAR(128) NOT NULL, version VARCHAR(64) NOT NULL, gateway VARCHAR(64) NOT NULL, layout VARCHAR(64) NOT NULL, workers INTEGER NOT NULL, words BLOB NOT NULL, block BLOB NOT NULL, at FLOAT NOT NULL, outcomes JSON DEFAULT '{}' NOT NULL, PRIMARY KEY (model, version, gateway) )
CREATE TABLE verdicts ( model VARCHAR(128) NOT NULL, version VARCHAR(64) NOT NULL, layout VARCHAR(64) NOT NULL, revision BIGINT NOT NULL, evidence JSON NOT NULL, summary JSON NOT NULL, document JSON NOT NULL, PRIMARY KEY (model, version) )
CREATE TABLE labelled ( seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR(36) NOT NULL, model VARCHAR(128) NOT NULL, version VARCHAR(64) NOT NULL, gateway VARCHAR(64) NOT NULL, number INTEGER NOT NULL, rows BLOB NOT NULL, UNIQUE (id) )
CREATE TABLE gateways ( id VARCHAR(64) NOT NULL, host VARCHAR(255) NOT NULL, release VARCHAR(64) NOT NULL, started FLOAT NOT NULL, seen FLOAT NOT NULL, revision BIGINT NOT NULL, serves JSON NOT NULL, home VARCHAR(64) DEFAULT '' NOT NULL, demand JSON DEFAULT '{}' NOT NULL, PRIMARY KEY (id) )
CREATE TABLE leadership ( name VARCHAR(16) NOT NULL, holder VARCHAR(64) NOT NULL, term BIGINT NOT NULL, until FLOAT NOT NULL, PRIMARY KEY (name) )
CREATE TABLE feedback ( seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, model VARCHAR(128) NOT NULL, at FLOAT NOT NULL, told JSON NOT NULL, size INTEGER NOT NULL )
CREATE TABLE feedback_readers ( reader VARCHAR(64) NOT NULL, passed BIGINT NOT NULL, at FLOAT NOT NULL, PRIMARY KEY (reader) )
CREATE TABLE request_history ( seq INTEGER NOT NULL, model VARCHAR(128) NOT NULL, version VARCHAR(64) NOT NULL, slow_ms FLOAT NOT NULL, at FLOAT NOT NULL, requests BIGINT NOT NULL, failed BIGINT NOT NULL, slow BIGINT NOT NULL, PRIMARY KEY (seq) )
CREATE TABLE row_requests ( id VARCHAR(36) NOT NULL, asker VARCHAR(64) NOT NULL, model VARCHAR(128) NOT NULL, version VARCHAR(64) NOT NULL, share FLOAT NOT NULL, for_exam BOOLEAN NOT NULL, most_rows BIGINT NOT NULL, most_bytes BIGINT NOT NULL, deadline FLOAT NOT NULL, PRIMARY KEY (id) )
CREATE TABLE row_answers ( request VARCHAR(36) NOT NULL, gateway VARCHAR(64) NOT NULL, digest VARCHAR(80) NOT NULL, number BIGINT NOT NULL, size BIGINT NOT NULL, problem TEXT NOT NULL, PRIMARY KEY (request, gateway) )
CREATE TABLE gathered ( model VARCHAR(128) NOT NULL, version VARCHAR(64) NOT NULL, gateway VARCHAR(64) NOT NULL, number BIGINT NOT NULL, answered BIGINT NOT NULL, rows BLOB NOT NULL, at FLOAT NOT NULL, PRIMARY KEY (model, version, gateway) )
CREATE TABLE keys ( id VARCHAR(16) NOT NULL, name VARCHAR(64) NOT NULL, digest VARCHAR(64) NOT NULL, roles JSON NOT NULL, models JSON NOT NULL, quota JSON NOT NULL, created FLOAT NOT NULL, created_by VARCHAR(128) NOT NULL, expires FLOAT, revoked FLOAT, PRIMARY KEY (id) )
CREATE TABLE audit_checkpoints ( size BIGINT NOT NULL, seq BIGINT NOT NULL, at VARCHAR(40) NOT NULL, note TEXT NOT NULL, PRIMARY KEY (size) )
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
CREATE TRIGGER audit_is_next BEFORE INSERT ON audit WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) FROM (SELECT max(seq) AS seq FROM audit UNION ALL SELECT max(last) FROM audit_archives) AS numbers) + 1 OR length(NEW.hash) <> 64 BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
CREATE TRIGGER audit_archives_no_update BEFORE UPDATE OF first, last, first_at, last_at, entries, digest, size, link, nodes ON audit_archives BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
CREATE TRIGGER audit_archives_is_next BEFORE INSERT ON audit_archives WHEN NOT coalesce(NEW.first = (SELECT min(seq) FROM audit) AND NEW.last BETWEEN NEW.first AND (SELECT max(seq) FROM audit), 0) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
CREATE TRIGGER audit_checkpoints_no_update BEFORE UPDATE ON audit_checkpoints BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
CREATE TRIGGER audit_checkpoints_is_next BEFORE INSERT ON audit_checkpoints WHEN NEW.size <= (SELECT coalesce(max(size), 0) FROM audit_checkpoints) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
CREATE TRIGGER audit_checkpoints_no_delete BEFORE DELETE ON audit_checkpoints WHEN OLD.size = (SELECT coalesce(max(size), 0) FROM audit_checkpoints) BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
CREATE TABLE signatures ( model VARCHAR(128) NOT NULL, version VARCHAR(64) NOT NULL, digest VARCHAR(80) NOT NULL, bundle TEXT NOT NULL, signers JSON NOT NULL, added_at FLOAT NOT NULL, added_by VARCHAR(128) NOT NULL, PRIMARY KEY (model, version, digest) )
CREATE TABLE approvals ( model VARCHAR(128) NOT NULL, version VARCHAR(64) NOT NULL, actor VARCHAR(128) NOT NULL, digest VARCHAR(80) NOT NULL, at FLOAT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (model, version, actor) )
CREATE TABLE erasures ( id VARCHAR(36) NOT NULL, model VARCHAR(128) NOT NULL, "column" TEXT NOT NULL, value TEXT NOT NULL, at FLOAT NOT NULL, PRIMARY KEY (id) )
CREATE TABLE erasure_reports ( erasure VARCHAR(36) NOT NULL, home VARCHAR(64) NOT NULL, report JSON NOT NULL, PRIMARY KEY (erasure, home) )
CREATE INDEX ix_audit_model ON audit (model)
CREATE INDEX ix_audit_model_action_at ON audit (model, action, at, seq)
CREATE INDEX ix_audit_subject_at ON audit (subject, at, seq)
CREATE INDEX ix_events_model ON events (model)
CREATE INDEX ix_feedback_at ON feedback (at)
CREATE INDEX ix_keys_name ON keys (name)
CREATE INDEX ix_leases_digest ON leases (digest)
CREATE INDEX ix_outbox_state ON outbox (state)
CREATE INDEX ix_request_history_model ON request_history (model)
CREATE INDEX ix_trials_model ON trials (model)
CREATE INDEX ix_trials_open ON trials (open)
CREATE INDEX ix_versions_digest ON versions (digest)
INSERT INTO "alembic_version" VALUES('0018');
INSERT INTO "leadership" VALUES('fleet','',0,0.0);
