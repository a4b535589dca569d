package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// OMOP reads care sites from a PostgreSQL database of the OMOP model (accesses.md 18.1). It is only read from.
type OMOP struct {
	db     *sql.DB
	types  []string
	rootID int64
}

// OMOPConfig says where the source is (PERIMETERS_SOURCE_DB_…).
type OMOPConfig struct {
	// URL is postgres://user:password@host:port/name.
	URL string
	// Schemas is where its tables are looked for (PERIMETERS_SOURCE_DB_SCHEMA): a comma list. The schema omop, whose name the
	// old system had written into its queries, comes after them, and before "public", which is the default.
	Schemas string
	// RootID and Types choose the sites (ROOT_PERIMETER_ID, PERIMETER_TYPES).
	RootID int64
	Types  []string
}

var schemaName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// NewOMOP prepares the source; it connects when it is asked. Close it.
func NewOMOP(cfg OMOPConfig) (*OMOP, error) {
	path := cfg.Schemas + ",omop"
	if cfg.Schemas == "" || cfg.Schemas == "public" {
		path = "omop,public"
	}
	for name := range strings.SplitSeq(path, ",") {
		if !schemaName.MatchString(strings.TrimSpace(name)) {
			return nil, fmt.Errorf("source of perimeters: %q is no name of a schema", name)
		}
	}
	parsed, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return nil, errors.New("source of perimeters: the URL is malformed") // its text would show the password
	}
	parsed.RuntimeParams["search_path"] = path
	parsed.RuntimeParams["default_transaction_read_only"] = "on"
	db := stdlib.OpenDB(*parsed)
	db.SetMaxIdleConns(0) // it is asked once a night
	return &OMOP{db: db, types: cfg.Types, rootID: cfg.RootID}, nil
}

// Close ends its connections.
func (o *OMOP) Close() error { return o.db.Close() }

// The names of the two concepts that link care sites.
const (
	conceptCareSite = "Care site"
	conceptPartOf   = "Care Site is part of Care Site"
)

// careSiteQuery takes the root, and the sites of the wanted types that are part of another one; all with a virtual cohort.
const careSiteQuery = `
WITH sites AS (
	SELECT c.care_site_id, c.care_site_name, c.care_site_short_name, c.care_site_type_source_value, c.care_site_source_value,
		l.id::text AS cohort_id, COALESCE(l._size::text, '') AS cohort_size
	FROM care_site c
	JOIN list l ON l._sourcereferenceid = c.care_site_id::text AND l.source__type = 'Organization' AND l.delete_datetime IS NULL
	WHERE c.delete_datetime IS NULL
)
SELECT s.*, NULL::bigint AS parent_id FROM sites s WHERE s.care_site_id = $1
UNION
SELECT s.*, f.fact_id_2::bigint FROM sites s
JOIN fact_relationship f ON f.fact_id_1 = s.care_site_id AND f.fact_id_1 <> f.fact_id_2 AND f.delete_datetime IS NULL
	AND f.domain_concept_id_1 = $2 AND f.domain_concept_id_2 = $2 AND f.relationship_concept_id = $3
WHERE s.care_site_type_source_value = ANY($4) AND s.care_site_id <> $1`

// CareSites implements CareSites.
func (o *OMOP) CareSites(ctx context.Context) (sites []CareSite, err error) {
	careSite, err := o.concept(ctx, conceptCareSite)
	if err != nil {
		return nil, err
	}
	partOf, err := o.concept(ctx, conceptPartOf)
	if err != nil {
		return nil, err
	}
	rows, err := o.db.QueryContext(ctx, careSiteQuery, o.rootID, careSite, partOf, o.types)
	if err != nil {
		return nil, fmt.Errorf("read care sites: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var c CareSite
		if err := rows.Scan(&c.ID, &c.Name, &c.ShortName, &c.Type, &c.SourceValue, &c.CohortID, &c.CohortSize, &c.ParentID); err != nil {
			return nil, fmt.Errorf("read care sites: %w", err)
		}
		sites = append(sites, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read care sites: %w", err)
	}
	return sites, nil
}

// concept is the id of the concept of a name, of which there must be exactly one.
func (o *OMOP) concept(ctx context.Context, name string) (id int64, err error) {
	var n int
	err = o.db.QueryRowContext(ctx, "SELECT COALESCE(MIN(source_concept_id), 0), COUNT(*) FROM concept_fhir WHERE source_concept_name = $1", name).Scan(&id, &n)
	if err != nil {
		return 0, fmt.Errorf("read concept %q: %w", name, err)
	}
	if n != 1 {
		return 0, fmt.Errorf("read concept %q: there are %d, not one", name, n)
	}
	return id, nil
}
