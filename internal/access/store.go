package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
)

// store asks the database. Each of its methods is one query, or says how many.
type store struct {
	db  *database.DB
	log *slog.Logger

	mu      sync.Mutex
	current *Tree
}

func newStore(db *database.DB, log *slog.Logger) *store { return &store{db: db, log: log} }

// treeVersion names the tree's row in engine_version.
const treeVersion = "perimeters"

// tree is the snapshot of the perimeters, loaded again when their version has moved: one query while it has not.
func (s *store) tree(ctx context.Context) (*Tree, error) {
	version, err := s.version(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock() // who comes while another one loads waits for that tree
	if s.current != nil && s.current.version >= version {
		return s.current, nil
	}
	var rows []Perimeter
	// The version was read before the rows: rows that are newer than it only cause another load.
	if err := s.db.Read(ctx).Order("id").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("load perimeters: %w", err)
	}
	tree := BuildTree(rows)
	tree.version = version
	for _, problem := range tree.Problems() {
		s.log.WarnContext(ctx, "perimeters make no tree", "problem", problem.String())
	}
	s.current = tree
	return tree, nil
}

func (s *store) version(ctx context.Context) (int64, error) {
	var versions []int64
	err := s.db.Read(ctx).Raw("SELECT version FROM engine_version WHERE name = ?", treeVersion).Scan(&versions).Error
	if err != nil {
		return 0, fmt.Errorf("read the version of perimeters: %w", err)
	}
	if len(versions) == 0 {
		return 0, nil
	}
	return versions[0], nil
}

// touchTree makes every process load the perimeters again. Call it in each transaction that writes them, before it does: the
// others wait for the row that it locks, instead of for each other's perimeters.
func touchTree(tx *database.Tx) error {
	err := tx.Exec(`INSERT INTO engine_version (name, version) VALUES (?, 1)
		ON CONFLICT (name) DO UPDATE SET version = engine_version.version + 1`, treeVersion).Error
	if err != nil {
		return fmt.Errorf("move the version of perimeters: %w", err)
	}
	return nil
}

// effective are the joins and conditions of accesses that give something at a moment: alive, in their time, with an active
// profile, and nothing deleted behind them (accesses.md 6.1; decision 23).
const effective = ` FROM accesses_access a
	JOIN accesses_profile p ON p.id = a.profile_id AND p.is_active AND p.delete_datetime IS NULL
	JOIN accesses_role r ON r.id = a.role_id AND r.delete_datetime IS NULL
	LEFT JOIN accesses_perimeter pe ON pe.id = a.perimeter_id
	WHERE a.delete_datetime IS NULL AND a.start_datetime <= @now AND a.end_datetime >= @now
	AND (a.perimeter_id IS NULL OR (pe.id IS NOT NULL AND pe.delete_datetime IS NULL))`

// grants are the effective accesses of a user.
func (s *store) grants(ctx context.Context, username string, now time.Time) (Grants, error) {
	var rows []struct {
		AccessID    int64
		PerimeterID *int64
		Flags       `gorm:"embedded"`
	}
	columns := "SELECT a.id AS access_id, a.perimeter_id, r." + strings.Join(rightNames[:], ", r.")
	err := s.db.Read(ctx).Raw(columns+effective+" AND p.user_id = @user ORDER BY a.id",
		map[string]any{"now": now, "user": username}).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read the valid accesses of a user: %w", err)
	}
	grants := make(Grants, len(rows))
	for i, row := range rows {
		grants[i] = Grant{AccessID: row.AccessID, PerimeterID: row.PerimeterID, Rights: row.Rights()}
	}
	return grants, nil
}

// roles are all live roles by id: a few dozen.
func (s *store) roles(ctx context.Context) (roles []Role, err error) {
	if err := s.db.Read(ctx).Where("delete_datetime IS NULL").Order("id").Find(&roles).Error; err != nil {
		return nil, fmt.Errorf("read roles: %w", err)
	}
	return roles, nil
}

// rolesByID are the roles of the accesses, deleted ones included.
func rolesByID(g *gorm.DB, ids []int64) (map[int64]Role, error) {
	found := make(map[int64]Role, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	var roles []Role
	if err := g.Where(database.OneOf("id", distinct(ids))).Find(&roles).Error; err != nil {
		return nil, fmt.Errorf("read roles: %w", err)
	}
	for _, role := range roles {
		found[role.ID] = role
	}
	return found, nil
}

// peopleByName are the users of the names, deleted ones included.
func peopleByName(g *gorm.DB, names []string) (map[string]person, error) {
	found := make(map[string]person, len(names))
	if len(names) == 0 {
		return found, nil
	}
	var people []person
	err := g.Table(`"user" u`).Where(database.OneOf("u.username", distinct(names))).
		Select("u.username, u.email, u.firstname, u.lastname, u.delete_datetime AS deleted").Scan(&people).Error
	if err != nil {
		return nil, fmt.Errorf("read people: %w", err)
	}
	for _, p := range people {
		found[*p.Username] = p
	}
	return found, nil
}

// distinct is a list without what it repeats.
func distinct[T cmp.Ordered](list []T) []T {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// live reads one row that is not soft-deleted; found is false when there is none.
func live[T any](g *gorm.DB, id int64) (row T, found bool, err error) {
	err = g.Where("id = ? AND delete_datetime IS NULL", id).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return row, false, nil
	}
	if err != nil {
		return row, false, fmt.Errorf("read row %d: %w", id, err)
	}
	return row, true, nil
}

// exists tells whether a table has the row, soft-deleted or not: what filters by a foreign key ask (accesses.md 2.3).
func (s *store) exists(ctx context.Context, table, key string, value any) (bool, error) {
	var n int64
	if err := s.db.Read(ctx).Table(table).Where(map[string]any{key: value}).Limit(1).Count(&n).Error; err != nil {
		return false, fmt.Errorf("look into %s: %w", table, err)
	}
	return n > 0, nil
}
