package access

import (
	"context"
	"fmt"
	"time"

	"cohortflow/internal/platform/database"
)

// CountUsers writes how many people have access to each perimeter: on it, from above through a role with effect on lower
// levels, and anywhere below it (accesses.md 16). People count once, through accesses in force. Only rows whose numbers
// change are written. It returns how many that were.
func (s *Service) CountUsers(ctx context.Context) (changed int, err error) {
	now := s.clock.Now()
	tree, err := s.store.tree(ctx)
	if err != nil {
		return 0, err
	}
	holders, err := s.store.holders(ctx, now)
	if err != nil {
		return 0, err
	}
	var rows [][]any
	for i, n := range countUsers(tree, holders) {
		p := &tree.nodes[i].Perimeter
		if p.Live() && !(same(p.CountAllowedUsers, n.direct) && same(p.CountAllowedUsersAboveLevels, n.above) &&
			same(p.CountAllowedUsersInferiorLevels, n.below)) {
			rows = append(rows, []any{p.ID, n.direct, n.above, n.below})
		}
	}
	if len(rows) == 0 {
		return 0, nil
	}
	return len(rows), s.store.writeCounts(ctx, rows)
}

func same(stored *int, n int) bool { return stored != nil && *stored == n }

// holder is somebody who has an access in force on a perimeter.
type holder struct {
	PerimeterID int64
	UserID      string
	Inherited   bool // the access has effect on lower levels
}

func (s *store) holders(ctx context.Context, now time.Time) (list []holder, err error) {
	columns := "SELECT DISTINCT a.perimeter_id, p.user_id, (" + anyFlag("r", inheritedRights) + ") AS inherited"
	err = s.db.Read(ctx).Raw(columns+effective+" AND a.perimeter_id IS NOT NULL AND p.user_id IS NOT NULL",
		map[string]any{"now": now}).Scan(&list).Error
	if err != nil {
		return nil, fmt.Errorf("read who has access where: %w", err)
	}
	return list, nil
}

var countRows = database.NewRecordset("counted", database.Column{Name: "id", Type: database.Int},
	database.Column{Name: "direct", Type: database.Int}, database.Column{Name: "above", Type: database.Int},
	database.Column{Name: "below", Type: database.Int})

func (s *store) writeCounts(ctx context.Context, rows [][]any) error {
	values, err := countRows.JSON(s.db.Dialect(), rows)
	if err != nil {
		return err
	}
	return s.db.Update(ctx, func(tx *database.Tx) error {
		if err := touchTree(tx); err != nil {
			return err
		}
		err := tx.Exec("UPDATE accesses_perimeter SET count_allowed_users = counted.direct, "+
			"count_allowed_users_above_levels = counted.above, count_allowed_users_inferior_levels = counted.below FROM "+
			countRows.From(s.db.Dialect())+" WHERE accesses_perimeter.id = counted.id", values).Error
		if err != nil {
			return fmt.Errorf("write the numbers of users: %w", err)
		}
		return nil
	})
}

// headcount are the three numbers of a perimeter.
type headcount struct{ direct, above, below int }

// countUsers is one pass down the tree for who has access from above, and one up for who has it below.
func countUsers(t *Tree, holders []holder) []headcount {
	direct, inherited := make([]map[string]bool, len(t.nodes)), make([]map[string]bool, len(t.nodes))
	add := func(sets []map[string]bool, at int, user string) {
		if sets[at] == nil {
			sets[at] = map[string]bool{}
		}
		sets[at][user] = true
	}
	for _, h := range holders {
		at, found := t.place[h.PerimeterID]
		if !found || !t.nodes[at].Live() {
			continue
		}
		add(direct, at, h.UserID)
		if h.Inherited {
			add(inherited, at, h.UserID)
		}
	}
	counts := make([]headcount, len(t.nodes))
	t.countAbove(inherited, counts)
	t.countBelow(direct, counts)
	return counts
}

// countAbove walks down, and keeps how often each user is met on the way from the top.
func (t *Tree) countAbove(inherited []map[string]bool, counts []headcount) {
	met := map[string]int{}
	var path []int
	for i := range t.nodes {
		for len(path) > 0 && path[len(path)-1] != t.nodes[i].parent {
			for user := range inherited[path[len(path)-1]] {
				if met[user]--; met[user] == 0 {
					delete(met, user)
				}
			}
			path = path[:len(path)-1]
		}
		counts[i].above = len(met)
		for user := range inherited[i] {
			met[user]++
		}
		path = append(path, i)
	}
}

// countBelow walks up, and pours the smaller set of users into the larger one.
func (t *Tree) countBelow(direct []map[string]bool, counts []headcount) {
	under := make([]map[string]bool, len(t.nodes))
	for i := len(t.nodes) - 1; i >= 0; i-- {
		counts[i].direct, counts[i].below = len(direct[i]), len(under[i])
		all := merge(under[i], direct[i])
		under[i] = nil
		if parent := t.nodes[i].parent; parent >= 0 {
			under[parent] = merge(under[parent], all)
		}
	}
}

// merge is the union of two sets, in the larger one.
func merge(a, b map[string]bool) map[string]bool {
	if len(a) < len(b) {
		a, b = b, a
	}
	for user := range b {
		a[user] = true
	}
	return a
}
