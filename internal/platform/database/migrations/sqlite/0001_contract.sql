-- The tables of the contract (schema.sql) as SQLite has them: the same columns, NOT NULL and unique sets. Arrays and JSON are
-- text that holds JSON, UUIDs lower-case text with hyphens, addresses and times of day text. Foreign keys are not declared,
-- because they would not be enforced. Indexes for prefix searches have no counterpart.

-- Accounts and platform administration

CREATE TABLE "user" (
    last_login      datetime,
    insert_datetime datetime,
    update_datetime datetime,
    delete_datetime datetime,
    username        varchar(30) NOT NULL,
    email           varchar(254),
    firstname       varchar,
    lastname        varchar,
    password        varchar(128),
    created_by      varchar(30),
    updated_by      varchar(30),
    CONSTRAINT user_pkey PRIMARY KEY (username),
    CONSTRAINT user_email_key UNIQUE (email)
);
CREATE INDEX user_created_by_c9d21167 ON "user" (created_by);
CREATE INDEX user_updated_by_8ed69243 ON "user" (updated_by);

CREATE TABLE admin_cohort_maintenancephase (
    insert_datetime datetime,
    update_datetime datetime,
    delete_datetime datetime,
    id              integer PRIMARY KEY AUTOINCREMENT,
    subject         text NOT NULL,
    start_datetime  datetime NOT NULL,
    end_datetime    datetime NOT NULL,
    message         text,
    type            varchar(10) NOT NULL
);

CREATE TABLE release_note (
    insert_datetime datetime,
    update_datetime datetime,
    delete_datetime datetime,
    id              integer PRIMARY KEY AUTOINCREMENT,
    title           text NOT NULL,
    message         text NOT NULL,
    author          text
);

CREATE TABLE rest_framework_tracking_apirequestlog (
    id                  integer PRIMARY KEY AUTOINCREMENT,
    requested_at        datetime NOT NULL,
    response_ms         integer NOT NULL,
    path                varchar(200) NOT NULL,
    remote_addr         text,
    host                varchar(200) NOT NULL,
    method              varchar(10) NOT NULL,
    query_params        text,
    data                text,
    response            text,
    status_code         integer,
    user_id             varchar(30),
    view                varchar(200),
    view_method         varchar(200),
    errors              text,
    username_persistent varchar(200),
    user_agent          varchar(255) NOT NULL,
    CONSTRAINT rest_framework_tracking_apirequestlog_response_ms_check CHECK (response_ms >= 0),
    CONSTRAINT rest_framework_tracking_apirequestlog_status_code_check CHECK (status_code >= 0)
);
CREATE INDEX rest_framework_tracking_apirequestlog_requested_at_b6f1c2f2 ON rest_framework_tracking_apirequestlog (requested_at);
CREATE INDEX rest_framework_tracking_apirequestlog_path_fe81f91b ON rest_framework_tracking_apirequestlog (path);
CREATE INDEX rest_framework_tracking_apirequestlog_status_code_3c9e2003 ON rest_framework_tracking_apirequestlog (status_code);
CREATE INDEX rest_framework_tracking_apirequestlog_user_id_671b70b7 ON rest_framework_tracking_apirequestlog (user_id);
CREATE INDEX rest_framework_tracking_apirequestlog_view_5bd1e407 ON rest_framework_tracking_apirequestlog (view);
CREATE INDEX rest_framework_tracking_apirequestlog_view_method_dd790881 ON rest_framework_tracking_apirequestlog (view_method);

-- Accesses: roles, rights, perimeters, profiles

CREATE TABLE accesses_role (
    insert_datetime                             datetime,
    update_datetime                             datetime,
    delete_datetime                             datetime,
    id                                          integer PRIMARY KEY AUTOINCREMENT,
    name                                        text,
    right_manage_users                          boolean NOT NULL,
    right_manage_admin_accesses_same_level      boolean NOT NULL,
    right_manage_admin_accesses_inferior_levels boolean NOT NULL,
    right_manage_data_accesses_same_level       boolean NOT NULL,
    right_manage_data_accesses_inferior_levels  boolean NOT NULL,
    right_read_patient_nominative               boolean NOT NULL,
    right_read_patient_pseudonymized            boolean NOT NULL,
    right_search_patients_by_ipp                boolean NOT NULL,
    right_export_jupyter_nominative             boolean NOT NULL,
    right_export_jupyter_pseudonymized          boolean NOT NULL,
    right_export_csv_xlsx_nominative            boolean NOT NULL,
    right_read_datalabs                         boolean NOT NULL,
    right_manage_datalabs                       boolean NOT NULL,
    right_search_opposed_patients               boolean NOT NULL,
    right_full_admin                            boolean NOT NULL,
    right_search_patients_unlimited             boolean NOT NULL
);
CREATE UNIQUE INDEX unique_name ON accesses_role (name) WHERE delete_datetime IS NULL;

CREATE TABLE accesses_right (
    insert_datetime                   datetime,
    update_datetime                   datetime,
    delete_datetime                   datetime,
    id                                integer PRIMARY KEY AUTOINCREMENT,
    name                              varchar NOT NULL,
    label                             varchar NOT NULL,
    is_global                         boolean NOT NULL,
    category                          varchar NOT NULL,
    depends_on_id                     integer,
    allow_edit_accesses_on_same_level boolean,
    allow_edit_accesses_on_inf_levels boolean,
    impact_inferior_levels            boolean
);
CREATE INDEX accesses_right_depends_on_id_c72d07c1 ON accesses_right (depends_on_id);

CREATE TABLE accesses_perimeter (
    insert_datetime                     datetime,
    update_datetime                     datetime,
    delete_datetime                     datetime,
    id                                  integer PRIMARY KEY AUTOINCREMENT,
    local_id                            varchar(63) NOT NULL,
    name                                text,
    source_value                        text,
    short_name                          text,
    type_source_value                   text,
    above_levels_ids                    text,
    inferior_levels_ids                 text,
    cohort_id                           text,
    full_path                           text,
    cohort_size                         text,
    parent_id                           bigint,
    level                               integer,
    count_allowed_users                 integer,
    count_allowed_users_above_levels    integer,
    count_allowed_users_inferior_levels integer,
    CONSTRAINT accesses_perimeter_local_id_key UNIQUE (local_id)
);
CREATE INDEX accesses_perimeter_parent_id_b1b8a490 ON accesses_perimeter (parent_id);

CREATE TABLE accesses_profile (
    insert_datetime datetime,
    update_datetime datetime,
    delete_datetime datetime,
    id              integer PRIMARY KEY AUTOINCREMENT,
    source          text,
    is_active       boolean,
    user_id         varchar(30)
);
CREATE INDEX accesses_profile_user_id_57884808 ON accesses_profile (user_id);

CREATE TABLE accesses_access (
    insert_datetime datetime,
    update_datetime datetime,
    delete_datetime datetime,
    id              integer PRIMARY KEY AUTOINCREMENT,
    source          text,
    perimeter_id    bigint,
    profile_id      integer,
    role_id         integer,
    created_by      varchar(30),
    updated_by      varchar(30),
    end_datetime    datetime,
    start_datetime  datetime,
    external_id     varchar
);
CREATE INDEX accesses_access_perimeter_id_3da01e60 ON accesses_access (perimeter_id);
CREATE INDEX accesses_access_profile_id_436fbd35 ON accesses_access (profile_id);
CREATE INDEX accesses_access_role_id_a17002ed ON accesses_access (role_id);
CREATE INDEX accesses_access_created_by_f4fd227f ON accesses_access (created_by);
CREATE INDEX accesses_access_updated_by_e6dc17cc ON accesses_access (updated_by);

-- Cohorts: folders, requests, snapshots, counts, cohorts, filters

CREATE TABLE cohort_folder (
    uuid               text NOT NULL,
    deleted            datetime,
    deleted_by_cascade boolean NOT NULL,
    created_at         datetime NOT NULL,
    modified_at        datetime NOT NULL,
    name               varchar(50) NOT NULL,
    owner_id           varchar(30) NOT NULL,
    description        text,
    CONSTRAINT cohort_folder_pkey PRIMARY KEY (uuid)
);
CREATE INDEX cohort_folder_deleted_13634441 ON cohort_folder (deleted);
CREATE INDEX cohort_folder_owner_id_729e15bf ON cohort_folder (owner_id);

CREATE TABLE cohort_request (
    uuid               text NOT NULL,
    deleted            datetime,
    deleted_by_cascade boolean NOT NULL,
    created_at         datetime NOT NULL,
    modified_at        datetime NOT NULL,
    name               varchar(255) NOT NULL,
    description        text NOT NULL,
    favorite           boolean NOT NULL,
    owner_id           varchar(30) NOT NULL,
    parent_folder_id   text NOT NULL,
    shared_by_id       varchar(30),
    CONSTRAINT cohort_request_pkey PRIMARY KEY (uuid)
);
CREATE INDEX cohort_request_deleted_53254309 ON cohort_request (deleted);
CREATE INDEX cohort_request_owner_id_44d71b55 ON cohort_request (owner_id);
CREATE INDEX cohort_request_parent_folder_id_4ace9bed ON cohort_request (parent_folder_id);
CREATE INDEX cohort_request_shared_by_id_5b53c0a7 ON cohort_request (shared_by_id);

CREATE TABLE cohort_requestquerysnapshot (
    uuid                 text NOT NULL,
    deleted              datetime,
    deleted_by_cascade   boolean NOT NULL,
    created_at           datetime NOT NULL,
    modified_at          datetime NOT NULL,
    serialized_query     text NOT NULL,
    perimeters_ids       text,
    owner_id             varchar(30) NOT NULL,
    previous_snapshot_id text,
    request_id           text NOT NULL,
    shared_by_id         varchar(30),
    version              integer NOT NULL,
    translated_query     text,
    name                 varchar,
    CONSTRAINT cohort_requestquerysnapshot_pkey PRIMARY KEY (uuid)
);
CREATE INDEX cohort_requestquerysnapshot_deleted_15a86121 ON cohort_requestquerysnapshot (deleted);
CREATE INDEX cohort_requestquerysnapshot_owner_id_22c1fe0e ON cohort_requestquerysnapshot (owner_id);
CREATE INDEX cohort_requestquerysnapshot_request_id_59b487c8 ON cohort_requestquerysnapshot (request_id);
CREATE INDEX cohort_requestquerysnapshot_previous_snapshot_id_05023bed ON cohort_requestquerysnapshot (previous_snapshot_id);
CREATE INDEX cohort_requestquerysnapshot_shared_by_id_27ae6af1 ON cohort_requestquerysnapshot (shared_by_id);

CREATE TABLE cohort_requestquerysnapshotpatch (
    id               integer PRIMARY KEY AUTOINCREMENT,
    uuid             varchar(64) NOT NULL,
    serialized_query text NOT NULL,
    patch_version    integer NOT NULL,
    created_at       datetime NOT NULL,
    snapshot_id      text NOT NULL,
    CONSTRAINT cohort_requestquerysnaps_snapshot_id_uuid_patch_v_72645b1a_uniq UNIQUE (snapshot_id, uuid, patch_version),
    CONSTRAINT cohort_requestquerysnapshotpatch_patch_version_check CHECK (patch_version >= 0)
);
CREATE INDEX cohort_requestquerysnapshotpatch_snapshot_id_1d02e2aa ON cohort_requestquerysnapshotpatch (snapshot_id);

CREATE TABLE cohort_datedmeasure (
    uuid                      text NOT NULL,
    deleted                   datetime,
    deleted_by_cascade        boolean NOT NULL,
    request_job_id            text NOT NULL,
    request_job_status        varchar(15) NOT NULL,
    request_job_fail_msg      text NOT NULL,
    request_job_duration      text NOT NULL,
    created_at                datetime NOT NULL,
    modified_at               datetime NOT NULL,
    fhir_datetime             datetime,
    measure                   bigint,
    measure_min               bigint,
    measure_max               bigint,
    count_task_id             text NOT NULL,
    mode                      varchar(20),
    owner_id                  varchar(30) NOT NULL,
    request_query_snapshot_id text NOT NULL,
    extra                     text,
    CONSTRAINT cohort_datedmeasure_pkey PRIMARY KEY (uuid)
);
CREATE INDEX cohort_datedmeasure_deleted_e1d8e7c6 ON cohort_datedmeasure (deleted);
CREATE INDEX cohort_datedmeasure_owner_id_771e25e6 ON cohort_datedmeasure (owner_id);
CREATE INDEX cohort_datedmeasure_request_query_snapshot_id_4bff1d38 ON cohort_datedmeasure (request_query_snapshot_id);

CREATE TABLE cohort_cohortresult (
    uuid                      text NOT NULL,
    deleted                   datetime,
    deleted_by_cascade        boolean NOT NULL,
    request_job_id            text NOT NULL,
    request_job_status        varchar(15) NOT NULL,
    request_job_fail_msg      text NOT NULL,
    request_job_duration      text NOT NULL,
    created_at                datetime NOT NULL,
    modified_at               datetime NOT NULL,
    name                      varchar(255),
    description               text,
    favorite                  boolean NOT NULL,
    group_id                  varchar(64) NOT NULL,
    create_task_id            text NOT NULL,
    dated_measure_id          text,
    dated_measure_global_id   text,
    owner_id                  varchar(30) NOT NULL,
    request_query_snapshot_id text,
    is_subset                 boolean NOT NULL,
    parent_cohort_id          text,
    sampling_ratio            real,
    CONSTRAINT cohort_cohortresult_pkey PRIMARY KEY (uuid)
);
CREATE INDEX cohort_cohortresult_deleted_ee2254a5 ON cohort_cohortresult (deleted);
CREATE INDEX cohort_cohortresult_owner_id_faa6fde1 ON cohort_cohortresult (owner_id);
CREATE INDEX cohort_cohortresult_request_query_snapshot_id_c9dbd385 ON cohort_cohortresult (request_query_snapshot_id);
CREATE INDEX cohort_cohortresult_dated_measure_id_8f160bfd ON cohort_cohortresult (dated_measure_id);
CREATE INDEX cohort_cohortresult_dated_measure_global_id_c12c5ef9 ON cohort_cohortresult (dated_measure_global_id);
CREATE INDEX cohort_cohortresult_parent_cohort_id_69141eaa ON cohort_cohortresult (parent_cohort_id);

CREATE TABLE cohort_feasibilitystudy (
    uuid                         text NOT NULL,
    deleted                      datetime,
    deleted_by_cascade           boolean NOT NULL,
    request_job_id               text NOT NULL,
    request_job_status           varchar(15) NOT NULL,
    request_job_fail_msg         text NOT NULL,
    request_job_duration         text NOT NULL,
    created_at                   datetime NOT NULL,
    modified_at                  datetime NOT NULL,
    total_count                  integer,
    display_eligibility_criteria boolean NOT NULL,
    display_total_count          boolean NOT NULL,
    display_count_by_ghu         boolean NOT NULL,
    display_count_by_hospital    boolean NOT NULL,
    display_count_by_uf          boolean NOT NULL,
    display_visit_dates          boolean NOT NULL,
    display_demographic_info     boolean NOT NULL,
    display_repartition_graphs   boolean NOT NULL,
    display_visit_graph          boolean NOT NULL,
    display_demographic_graph    boolean NOT NULL,
    report_json_content          blob,
    report_file                  blob,
    owner_id                     varchar(30) NOT NULL,
    request_query_snapshot_id    text NOT NULL,
    CONSTRAINT cohort_feasibilitystudy_pkey PRIMARY KEY (uuid)
);
CREATE INDEX cohort_feasibilitystudy_deleted_064d67e0 ON cohort_feasibilitystudy (deleted);
CREATE INDEX cohort_feasibilitystudy_owner_id_d8cab08d ON cohort_feasibilitystudy (owner_id);
CREATE INDEX cohort_feasibilitystudy_request_query_snapshot_id_c73dafb2 ON cohort_feasibilitystudy (request_query_snapshot_id);

CREATE TABLE cohort_requestrefreshschedule (
    uuid                   text NOT NULL,
    deleted                datetime,
    deleted_by_cascade     boolean NOT NULL,
    created_at             datetime NOT NULL,
    modified_at            datetime NOT NULL,
    refresh_time           text NOT NULL,
    refresh_frequency      varchar NOT NULL,
    last_refresh           datetime,
    last_refresh_succeeded boolean,
    last_refresh_count     integer,
    last_refresh_error_msg varchar,
    notify_owner           boolean NOT NULL,
    request_snapshot_id    text NOT NULL,
    owner_id               varchar(30) NOT NULL,
    CONSTRAINT cohort_requestrefreshschedule_pkey PRIMARY KEY (uuid)
);
CREATE INDEX cohort_requestrefreshschedule_deleted_9891a0df ON cohort_requestrefreshschedule (deleted);
CREATE INDEX cohort_requestrefreshschedule_request_snapshot_id_e0979f41 ON cohort_requestrefreshschedule (request_snapshot_id);
CREATE INDEX cohort_requestrefreshschedule_owner_id_7bea4612 ON cohort_requestrefreshschedule (owner_id);
CREATE UNIQUE INDEX unique_request_snapshot_refresh_schedule ON cohort_requestrefreshschedule (request_snapshot_id) WHERE deleted IS NULL;

CREATE TABLE cohort_fhirfilter (
    uuid               text NOT NULL,
    deleted            datetime,
    deleted_by_cascade boolean NOT NULL,
    created_at         datetime NOT NULL,
    modified_at        datetime NOT NULL,
    fhir_resource      varchar(255) NOT NULL,
    fhir_version       varchar(50) NOT NULL,
    name               varchar(50) NOT NULL,
    filter             text NOT NULL,
    owner_id           varchar(30) NOT NULL,
    query_version      varchar(50) NOT NULL,
    auto_generated     boolean NOT NULL,
    identifying        boolean NOT NULL,
    CONSTRAINT cohort_fhirfilter_pkey PRIMARY KEY (uuid)
);
CREATE INDEX cohort_fhirfilter_deleted_30808b8a ON cohort_fhirfilter (deleted);
CREATE INDEX cohort_fhirfilter_owner_id_fbeb980f ON cohort_fhirfilter (owner_id);
CREATE UNIQUE INDEX unique_name_fhir_resource_owner ON cohort_fhirfilter (name, fhir_resource, owner_id) WHERE deleted IS NULL;

CREATE TABLE cohort_filterfhirpatch (
    id             integer PRIMARY KEY AUTOINCREMENT,
    uuid           varchar(64) NOT NULL,
    filter         text NOT NULL,
    patch_version  integer NOT NULL,
    created_at     datetime NOT NULL,
    filter_fhir_id text NOT NULL,
    CONSTRAINT cohort_filterfhirpatch_filter_fhir_id_uuid_patc_835090de_uniq UNIQUE (filter_fhir_id, uuid, patch_version),
    CONSTRAINT cohort_filterfhirpatch_patch_version_check CHECK (patch_version >= 0)
);
CREATE INDEX cohort_filterfhirpatch_filter_fhir_id_c244d4e6 ON cohort_filterfhirpatch (filter_fhir_id);

-- Exports

CREATE TABLE infrastructure_provider (
    uuid               text NOT NULL,
    deleted            datetime,
    deleted_by_cascade boolean NOT NULL,
    created_at         datetime NOT NULL,
    modified_at        datetime NOT NULL,
    name               varchar(255) NOT NULL,
    CONSTRAINT infrastructure_provider_pkey PRIMARY KEY (uuid)
);
CREATE INDEX infrastructure_provider_deleted_da6a7699 ON infrastructure_provider (deleted);

CREATE TABLE datalab (
    uuid                       text NOT NULL,
    deleted                    datetime,
    deleted_by_cascade         boolean NOT NULL,
    created_at                 datetime NOT NULL,
    modified_at                datetime NOT NULL,
    infrastructure_provider_id text NOT NULL,
    name                       varchar(255) NOT NULL,
    CONSTRAINT datalab_pkey PRIMARY KEY (uuid),
    CONSTRAINT datalab_name_key UNIQUE (name)
);
CREATE INDEX datalab_deleted_610e6269 ON datalab (deleted);
CREATE INDEX datalab_infrastructure_provider_id_4cbe519b ON datalab (infrastructure_provider_id);

CREATE TABLE export (
    uuid                  text NOT NULL,
    deleted               datetime,
    deleted_by_cascade    boolean NOT NULL,
    created_at            datetime NOT NULL,
    modified_at           datetime NOT NULL,
    motivation            text,
    clean_datetime        datetime,
    output_format         varchar(20) NOT NULL,
    target_name           varchar(255),
    target_location       text,
    data_exporter_version varchar(20),
    data_version          varchar(20),
    nominative            boolean NOT NULL,
    shift_dates           boolean NOT NULL,
    is_user_notified      boolean NOT NULL,
    datalab_id            text,
    owner_id              varchar(30) NOT NULL,
    request_job_duration  text NOT NULL,
    request_job_fail_msg  text NOT NULL,
    request_job_id        text NOT NULL,
    request_job_status    varchar(15) NOT NULL,
    group_tables          boolean NOT NULL,
    retried               boolean NOT NULL,
    CONSTRAINT export_pkey PRIMARY KEY (uuid)
);
CREATE INDEX export_deleted_bddac511 ON export (deleted);
CREATE INDEX export_datalab_id_a821d9b0 ON export (datalab_id);
CREATE INDEX export_owner_id_ba1db078 ON export (owner_id);

CREATE TABLE export_table (
    uuid                        text NOT NULL,
    deleted                     datetime,
    deleted_by_cascade          boolean NOT NULL,
    created_at                  datetime NOT NULL,
    modified_at                 datetime NOT NULL,
    name                        varchar(55) NOT NULL,
    respect_table_relationships boolean NOT NULL,
    cohort_result_subset_id     text,
    export_id                   text NOT NULL,
    fhir_filter_id              text,
    cohort_result_source_id     text,
    columns                     text,
    pivot_merge_columns         text,
    pivot_merge                 boolean NOT NULL,
    pivot_merge_ids             text,
    CONSTRAINT export_table_pkey PRIMARY KEY (uuid)
);
CREATE INDEX export_table_deleted_d0ce034f ON export_table (deleted);
CREATE INDEX export_table_export_id_182417fe ON export_table (export_id);
CREATE INDEX export_table_fhir_filter_id_a272853f ON export_table (fhir_filter_id);
CREATE INDEX export_table_cohort_result_source_id_6b00abe3 ON export_table (cohort_result_source_id);
CREATE INDEX export_table_cohort_result_subset_id_e0910758 ON export_table (cohort_result_subset_id);

CREATE TABLE export_result_stat (
    uuid               text NOT NULL,
    deleted            datetime,
    deleted_by_cascade boolean NOT NULL,
    created_at         datetime NOT NULL,
    modified_at        datetime NOT NULL,
    name               varchar(55) NOT NULL,
    type               varchar(20) NOT NULL,
    value              varchar(55) NOT NULL,
    export_id          text NOT NULL,
    CONSTRAINT export_result_stat_pkey PRIMARY KEY (uuid)
);
CREATE INDEX export_result_stat_deleted_075cf77a ON export_result_stat (deleted);
CREATE INDEX export_result_stat_export_id_f4d4626c ON export_result_stat (export_id);

-- Web content

CREATE TABLE content_management_content (
    id           integer PRIMARY KEY AUTOINCREMENT,
    title        varchar(200) NOT NULL,
    content      text NOT NULL,
    page         varchar(100) NOT NULL,
    content_type varchar(20) NOT NULL,
    created_at   datetime NOT NULL,
    modified_at  datetime NOT NULL,
    deleted_at   datetime
);

CREATE TABLE content_management_contentmetadata (
    id         integer PRIMARY KEY AUTOINCREMENT,
    name       varchar(50) NOT NULL,
    value      varchar(255) NOT NULL,
    content_id integer NOT NULL,
    CONSTRAINT content_management_conte_content_id_name_75b5f4d7_uniq UNIQUE (content_id, name)
);
CREATE INDEX content_management_contentmetadata_content_id_e2067d50 ON content_management_contentmetadata (content_id);

-- Periodic tasks and migration ledger

CREATE TABLE django_celery_beat_crontabschedule (
    id            integer PRIMARY KEY AUTOINCREMENT,
    minute        varchar(240) NOT NULL,
    hour          varchar(96) NOT NULL,
    day_of_week   varchar(64) NOT NULL,
    day_of_month  varchar(124) NOT NULL,
    month_of_year varchar(64) NOT NULL,
    timezone      varchar(63) NOT NULL
);

CREATE TABLE django_celery_beat_intervalschedule (
    id     integer PRIMARY KEY AUTOINCREMENT,
    every  integer NOT NULL,
    period varchar(24) NOT NULL
);

CREATE TABLE django_celery_beat_solarschedule (
    id        integer PRIMARY KEY AUTOINCREMENT,
    event     varchar(24) NOT NULL,
    latitude  numeric(9,6) NOT NULL,
    longitude numeric(9,6) NOT NULL,
    CONSTRAINT django_celery_beat_solar_event_latitude_longitude_ba64999a_uniq UNIQUE (event, latitude, longitude)
);

CREATE TABLE django_celery_beat_clockedschedule (
    id           integer PRIMARY KEY AUTOINCREMENT,
    clocked_time datetime NOT NULL
);

CREATE TABLE django_celery_beat_periodictask (
    id              integer PRIMARY KEY AUTOINCREMENT,
    name            varchar(200) NOT NULL,
    task            varchar(200) NOT NULL,
    args            text NOT NULL,
    kwargs          text NOT NULL,
    queue           varchar(200),
    exchange        varchar(200),
    routing_key     varchar(200),
    expires         datetime,
    enabled         boolean NOT NULL,
    last_run_at     datetime,
    total_run_count integer NOT NULL,
    date_changed    datetime NOT NULL,
    description     text NOT NULL,
    crontab_id      integer,
    interval_id     integer,
    solar_id        integer,
    one_off         boolean NOT NULL,
    start_time      datetime,
    priority        integer,
    headers         text NOT NULL,
    clocked_id      integer,
    expire_seconds  integer,
    CONSTRAINT django_celery_beat_periodictask_name_key UNIQUE (name),
    CONSTRAINT django_celery_beat_periodictask_total_run_count_check CHECK (total_run_count >= 0),
    CONSTRAINT django_celery_beat_periodictask_priority_check CHECK (priority >= 0),
    CONSTRAINT django_celery_beat_periodictask_expire_seconds_check CHECK (expire_seconds >= 0)
);
CREATE INDEX django_celery_beat_periodictask_crontab_id_d3cba168 ON django_celery_beat_periodictask (crontab_id);
CREATE INDEX django_celery_beat_periodictask_interval_id_a8ca27da ON django_celery_beat_periodictask (interval_id);
CREATE INDEX django_celery_beat_periodictask_solar_id_a87ce72c ON django_celery_beat_periodictask (solar_id);
CREATE INDEX django_celery_beat_periodictask_clocked_id_47a69f82 ON django_celery_beat_periodictask (clocked_id);

CREATE TABLE django_celery_beat_periodictasks (
    ident       smallint NOT NULL,
    last_update datetime NOT NULL,
    CONSTRAINT django_celery_beat_periodictasks_pkey PRIMARY KEY (ident)
);

CREATE TABLE django_migrations (
    id      integer PRIMARY KEY AUTOINCREMENT,
    app     varchar(255) NOT NULL,
    name    varchar(255) NOT NULL,
    applied datetime NOT NULL
);

-- Framework tables that the application neither reads nor needs

CREATE TABLE django_session (
    session_key  varchar(40) NOT NULL,
    session_data text NOT NULL,
    expire_date  datetime NOT NULL,
    CONSTRAINT django_session_pkey PRIMARY KEY (session_key)
);
CREATE INDEX django_session_expire_date_a5c62663 ON django_session (expire_date);

CREATE TABLE django_content_type (
    id        integer PRIMARY KEY AUTOINCREMENT,
    app_label varchar(100) NOT NULL,
    model     varchar(100) NOT NULL,
    CONSTRAINT django_content_type_app_label_model_76bd3d3b_uniq UNIQUE (app_label, model)
);

CREATE TABLE auth_permission (
    id              integer PRIMARY KEY AUTOINCREMENT,
    name            varchar(255) NOT NULL,
    content_type_id integer NOT NULL,
    codename        varchar(100) NOT NULL,
    CONSTRAINT auth_permission_content_type_id_codename_01ab375a_uniq UNIQUE (content_type_id, codename)
);
CREATE INDEX auth_permission_content_type_id_2f476e4b ON auth_permission (content_type_id);

CREATE TABLE auth_group (
    id   integer PRIMARY KEY AUTOINCREMENT,
    name varchar(150) NOT NULL,
    CONSTRAINT auth_group_name_key UNIQUE (name)
);

CREATE TABLE auth_group_permissions (
    id            integer PRIMARY KEY AUTOINCREMENT,
    group_id      integer NOT NULL,
    permission_id integer NOT NULL,
    CONSTRAINT auth_group_permissions_group_id_permission_id_0cd325b0_uniq UNIQUE (group_id, permission_id)
);
CREATE INDEX auth_group_permissions_group_id_b120cbf9 ON auth_group_permissions (group_id);
CREATE INDEX auth_group_permissions_permission_id_84c5c92e ON auth_group_permissions (permission_id);

CREATE TABLE django_admin_log (
    id              integer PRIMARY KEY AUTOINCREMENT,
    action_time     datetime NOT NULL,
    object_id       text,
    object_repr     varchar(200) NOT NULL,
    action_flag     smallint NOT NULL,
    change_message  text NOT NULL,
    content_type_id integer,
    user_id         varchar(30) NOT NULL,
    CONSTRAINT django_admin_log_action_flag_check CHECK (action_flag >= 0)
);
CREATE INDEX django_admin_log_content_type_id_c4bce8eb ON django_admin_log (content_type_id);
CREATE INDEX django_admin_log_user_id_c564eba6 ON django_admin_log (user_id);
