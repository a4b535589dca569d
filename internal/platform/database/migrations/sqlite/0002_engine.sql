-- The engine's own tables. No foreign key leaves them: the old system must be able to delete its rows when it takes the
-- database back.

CREATE TABLE engine_job (
    id           text         NOT NULL PRIMARY KEY,
    kind         text         NOT NULL,
    subject      text         NOT NULL,
    owner        varchar(30)  NOT NULL,
    state        text         NOT NULL,
    external_id  text         NOT NULL DEFAULT '',
    deadline     datetime,
    heard_at     datetime     NOT NULL,
    reason       text         NOT NULL DEFAULT '',
    version      bigint       NOT NULL,
    created_at   datetime     NOT NULL,
    updated_at   datetime     NOT NULL,
    ended_at     datetime,
    CONSTRAINT engine_job_kind_subject_key UNIQUE (kind, subject),
    CONSTRAINT engine_job_named_check CHECK (kind <> '' AND subject <> '' AND state <> ''),
    CONSTRAINT engine_job_subject_check CHECK (length(subject) <= 64),
    CONSTRAINT engine_job_version_check CHECK (version >= 0),
    CONSTRAINT engine_job_ended_check CHECK (ended_at IS NULL OR deadline IS NULL)
);
CREATE INDEX engine_job_owner_created_at ON engine_job (owner, created_at);
CREATE INDEX engine_job_deadline ON engine_job (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX engine_job_kind_state ON engine_job (kind, state);

CREATE TABLE engine_task (
    id           text         NOT NULL PRIMARY KEY,
    name         text         NOT NULL,
    job_id       text,
    payload      text         NOT NULL,
    queue        text         NOT NULL,
    due_at       datetime     NOT NULL,
    attempt      integer      NOT NULL,
    lease_owner  text         NOT NULL DEFAULT '',
    lease_until  datetime,
    last_error   text         NOT NULL DEFAULT '',
    dead_at      datetime,
    created_at   datetime     NOT NULL,
    CONSTRAINT engine_task_named_check CHECK (name <> '' AND queue <> ''),
    CONSTRAINT engine_task_attempt_check CHECK (attempt >= 0),
    CONSTRAINT engine_task_dead_check CHECK (dead_at IS NULL OR lease_until IS NULL)
);
CREATE INDEX engine_task_due_at ON engine_task (due_at) WHERE dead_at IS NULL;
CREATE INDEX engine_task_job_id ON engine_task (job_id);

CREATE TABLE engine_event (
    id          integer      PRIMARY KEY AUTOINCREMENT,
    job_id      text         NOT NULL,
    kind        text         NOT NULL,
    subject     text         NOT NULL,
    owner       varchar(30)  NOT NULL,
    at          datetime     NOT NULL,
    actor       text         NOT NULL,
    event       text         NOT NULL,
    from_state  text         NOT NULL,
    to_state    text         NOT NULL,
    attempt     integer      NOT NULL,
    applied     boolean      NOT NULL,
    detail      text         NOT NULL
);
CREATE INDEX engine_event_job_id_id ON engine_event (job_id, id);
CREATE INDEX engine_event_owner_id ON engine_event (owner, id);

CREATE TABLE engine_secret (
    job_id      text         NOT NULL PRIMARY KEY,
    key_id      text         NOT NULL,
    nonce       blob         NOT NULL,
    sealed      blob         NOT NULL,
    created_at  datetime     NOT NULL,
    CONSTRAINT engine_secret_sealed_check CHECK (key_id <> '' AND length(nonce) > 0 AND length(sealed) > 0)
);

CREATE TABLE engine_tick (
    name        text         NOT NULL,
    at          datetime     NOT NULL,
    created_at  datetime     NOT NULL,
    CONSTRAINT engine_tick_pkey PRIMARY KEY (name, at)
);

CREATE TABLE engine_notification (
    id          text         NOT NULL PRIMARY KEY,
    job_id      text         NOT NULL,
    outcome     text         NOT NULL,
    channel     text         NOT NULL,
    recipient   text         NOT NULL,
    created_at  datetime     NOT NULL,
    sent_at     datetime,
    CONSTRAINT engine_notification_job_id_outcome_channel_key UNIQUE (job_id, outcome, channel)
);

CREATE TABLE engine_version (
    name     text    NOT NULL PRIMARY KEY,
    version  bigint  NOT NULL
);

CREATE TABLE engine_login_failure (
    username  varchar(150)  NOT NULL,
    at        datetime      NOT NULL
);
CREATE INDEX engine_login_failure_username_at ON engine_login_failure (username, at);
