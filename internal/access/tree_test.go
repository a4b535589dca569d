package access

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var day1 = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

// naive answers by walking the rows.
type naive map[int64]Perimeter

// ancestors are nil for what hangs in a cycle at or above it: nothing is known of it.
func (n naive) ancestors(id int64) (list []int64) {
	for at := n[id]; at.ParentID != nil; {
		parent, found := n[*at.ParentID]
		if !found || n.cyclic(at.ID) {
			return list
		}
		list = append(list, parent.ID)
		at = parent
	}
	return list
}

func (n naive) cyclic(id int64) bool {
	at := n[id]
	for range len(n) {
		if at.ParentID == nil {
			return false
		}
		parent, found := n[*at.ParentID]
		if !found {
			return false
		}
		if parent.ID == id {
			return true
		}
		at = parent
	}
	return false
}

func TestTreeAgainstNaive(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 7))
		size := random.IntN(60)
		rows := make([]Perimeter, size)
		all := naive{}
		for i := range rows {
			rows[i] = Perimeter{ID: int64(i) * 3, LocalID: joinIDs([]int64{int64(i) * 3})}
			switch kind := random.IntN(20); {
			case kind == 0: // a root
			case kind == 1: // an orphan
				rows[i].ParentID = new(int64(10_000 + i))
			case kind < 4: // anybody, so that there are cycles, also with oneself
				rows[i].ParentID = new(int64(random.IntN(size)) * 3)
			case i > 0:
				rows[i].ParentID = new(int64(random.IntN(i)) * 3)
			}
			if random.IntN(10) == 0 {
				rows[i].DeleteDatetime = &day1
			}
			all[rows[i].ID] = rows[i]
		}
		random.Shuffle(size, func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		tree := BuildTree(rows)
		for _, p := range rows {
			ancestors := all.ancestors(p.ID)
			var above []int64
			for a := range tree.Above(p.ID) {
				above = append(above, a.ID)
			}
			require.Equal(t, ancestors, above, "seed %d, perimeter %d", seed, p.ID)
			var below, children []int64
			for _, q := range rows {
				require.Equal(t, q.ID == p.ID || slices.Contains(ancestors, q.ID), tree.Covers(q.ID, p.ID))
				if chain := all.ancestors(q.ID); slices.Contains(chain, p.ID) {
					below = append(below, q.ID)
					if chain[0] == p.ID && q.DeleteDatetime == nil {
						children = append(children, q.ID)
					}
				}
			}
			require.ElementsMatch(t, below, tree.Below(p.ID))
			require.ElementsMatch(t, children, idsOf(tree.Children(p.ID)))
		}
	}
}

func TestTreeProblems(t *testing.T) {
	t.Parallel()
	rows := []Perimeter{
		{ID: 1, LocalID: "1"}, {ID: 2, LocalID: "2", ParentID: new(int64(3))}, {ID: 3, LocalID: "3", ParentID: new(int64(2))},
		{ID: 4, LocalID: "4", ParentID: new(int64(2))}, {ID: 5, LocalID: "5", ParentID: new(int64(99))}, {ID: 6, LocalID: "6", ParentID: new(int64(6))},
	}
	tree := BuildTree(rows)
	require.ElementsMatch(t, []Problem{
		{5, "has the parent 99, which does not exist"}, {2, "is its own ancestor"}, {3, "is its own ancestor"}, {6, "is its own ancestor"},
	}, tree.Problems())
	require.Equal(t, "perimeter 2 is its own ancestor", Problem{2, "is its own ancestor"}.String())
	require.True(t, tree.Covers(2, 4))
	require.False(t, tree.Covers(3, 4), "a cycle gives no rights through it")
	require.Equal(t, []int64{1}, idsOf(tree.Roots()))
	require.Nil(t, BuildTree(nil).Get(1))
	require.False(t, BuildTree(nil).Covers(1, 1))
}

func TestTreeIsDeep(t *testing.T) {
	t.Parallel()
	const depth = 50_000
	rows := make([]Perimeter, depth)
	for i := range rows {
		rows[i] = Perimeter{ID: int64(i)}
		if i > 0 {
			rows[i].ParentID = new(int64(i - 1))
		}
	}
	tree := BuildTree(rows)
	require.True(t, tree.Covers(0, depth-1))
	require.False(t, tree.Covers(depth-1, 0))
	require.Len(t, tree.Below(0), depth-1)
}

func TestUnderVisitsOnce(t *testing.T) {
	t.Parallel()
	tree := BuildTree(fixtureRows())
	var seen []int64
	tree.under(map[int64]bool{4: true, 11: true, 0: true, 10: true, 4711: true}, func(n *node) { seen = append(seen, n.ID) })
	require.ElementsMatch(t, []int64{0, 3, 4, 5, 11, 12, 10, 13, 14}, seen)
}
