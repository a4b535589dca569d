package access

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Tree is an immutable snapshot of all perimeters, soft-deleted ones included, in which "is below" is a comparison of two
// numbers: each node has its place in a walk from the roots, and the place after its last descendant. The parent column
// makes the tree; the lists of ids in other columns are for clients. It is safe for concurrent use.
//
// Rows that make no tree give no rights rather than too many: a node whose parent does not exist, and every node of a
// cycle, stands alone above its own descendants. Problems names them.
type Tree struct {
	version  int64
	nodes    []node // in the order of the walk
	place    map[int64]int
	roots    []int
	byCohort map[string][]int
	problems []string
}

type node struct {
	Perimeter
	parent   int // place, -1 for none
	end      int // place after the last descendant
	children []int
	// searched is what searches look into, in lower case.
	searched string
}

// BuildTree makes a snapshot of rows.
func BuildTree(rows []Perimeter) *Tree {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b Perimeter) int { return compare(a.ID, b.ID) })
	t := &Tree{
		nodes: make([]node, 0, len(rows)), place: make(map[int64]int, len(rows)), byCohort: make(map[string][]int, len(rows)),
	}
	parents := t.parentsOf(rows)
	children := make([][]int, len(rows))
	for i, parent := range parents {
		if parent >= 0 {
			children[parent] = append(children[parent], i)
		}
	}
	for i := range rows {
		if parents[i] < 0 {
			t.walk(rows, children, i)
		}
	}
	for i := range t.nodes {
		t.index(i)
	}
	return t
}

// parentsOf resolves the parent column to indices of rows; -1 where there is none, where it does not exist, and on cycles.
func (t *Tree) parentsOf(rows []Perimeter) []int {
	byID := make(map[int64]int, len(rows))
	for i := range rows {
		byID[rows[i].ID] = i
	}
	parents := make([]int, len(rows))
	for i := range rows {
		parents[i] = -1
		if id := rows[i].ParentID; id != nil {
			if at, found := byID[*id]; found {
				parents[i] = at
			} else {
				t.problems = append(t.problems, fmt.Sprintf("perimeter %d: its parent %d does not exist", rows[i].ID, *id))
			}
		}
	}
	t.cutCycles(rows, parents)
	return parents
}

func (t *Tree) cutCycles(rows []Perimeter, parents []int) {
	const (
		unseen = iota
		onPath
		done
	)
	state := make([]uint8, len(parents))
	for i := range parents {
		var path []int
		at := i
		for at >= 0 && state[at] == unseen {
			state[at] = onPath
			path = append(path, at)
			at = parents[at]
		}
		if at >= 0 && state[at] == onPath { // the path has bitten its tail, at its node "at"
			for _, member := range path[slices.Index(path, at):] {
				t.problems = append(t.problems, fmt.Sprintf("perimeter %d is its own ancestor", rows[member].ID))
				parents[member] = -1
			}
		}
		for _, member := range path {
			state[member] = done
		}
	}
}

// walk appends a top and what lies below it, parents first, without recursion: trees from outside may be deep.
func (t *Tree) walk(rows []Perimeter, children [][]int, top int) {
	type step struct{ row, parent int }
	stack := []step{{top, -1}}
	var open []int // places whose descendants are still coming
	for len(stack) > 0 {
		next := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for len(open) > 0 && open[len(open)-1] != next.parent {
			t.nodes[open[len(open)-1]].end = len(t.nodes)
			open = open[:len(open)-1]
		}
		place := len(t.nodes)
		t.nodes = append(t.nodes, node{Perimeter: rows[next.row], parent: next.parent})
		t.place[rows[next.row].ID] = place
		if next.parent >= 0 {
			t.nodes[next.parent].children = append(t.nodes[next.parent].children, place)
		}
		open = append(open, place)
		for _, child := range slices.Backward(children[next.row]) {
			stack = append(stack, step{child, place})
		}
	}
	for _, place := range open {
		t.nodes[place].end = len(t.nodes)
	}
}

func (t *Tree) index(i int) {
	n := &t.nodes[i]
	n.searched = strings.ToLower(deref(n.Name) + "\x00" + deref(n.TypeSourceValue) + "\x00" + deref(n.SourceValue))
	if !n.Live() {
		return
	}
	if n.ParentID == nil {
		t.roots = append(t.roots, i)
	}
	if id := deref(n.CohortID); id != "" {
		t.byCohort[id] = append(t.byCohort[id], i)
	}
}

// Problems says, in sentences, which rows make no tree.
func (t *Tree) Problems() []string { return t.problems }

// Len is the number of perimeters, soft-deleted ones included.
func (t *Tree) Len() int { return len(t.nodes) }

// Get is a perimeter, soft-deleted or not; nil when there is none.
func (t *Tree) Get(id int64) *Perimeter {
	if at, found := t.place[id]; found {
		return &t.nodes[at].Perimeter
	}
	return nil
}

// Live is a perimeter that is not soft-deleted; nil when there is none.
func (t *Tree) Live(id int64) *Perimeter {
	if p := t.Get(id); p != nil && p.Live() {
		return p
	}
	return nil
}

// Covers tells whether id is upper or lies below it. Unknown ids cover nothing and are covered by nothing.
func (t *Tree) Covers(upper, id int64) bool {
	u, known := t.place[upper]
	at, found := t.place[id]
	return known && found && u <= at && at < t.nodes[u].end
}

// Above walks the ancestors of a perimeter, the nearest first, without the perimeter itself.
func (t *Tree) Above(id int64) iter.Seq[*Perimeter] {
	return func(yield func(*Perimeter) bool) {
		at, found := t.place[id]
		if !found {
			return
		}
		for at = t.nodes[at].parent; at >= 0; at = t.nodes[at].parent {
			if !yield(&t.nodes[at].Perimeter) {
				return
			}
		}
	}
}

// CoveredBy tells whether the perimeter or one of its ancestors is in the set.
func (t *Tree) CoveredBy(id int64, set map[int64]bool) bool {
	if len(set) == 0 {
		return false
	}
	return set[id] && t.Get(id) != nil || t.below(id, set)
}

// below tells whether an ancestor of the perimeter is in the set.
func (t *Tree) below(id int64, set map[int64]bool) bool {
	for p := range t.Above(id) {
		if set[p.ID] {
			return true
		}
	}
	return false
}

// Below are the ids of all perimeters under one, without itself.
func (t *Tree) Below(id int64) []int64 {
	at, found := t.place[id]
	if !found {
		return nil
	}
	ids := make([]int64, 0, t.nodes[at].end-at-1)
	for i := at + 1; i < t.nodes[at].end; i++ {
		ids = append(ids, t.nodes[i].ID)
	}
	return ids
}

// Children are the live direct children of a perimeter, by id.
func (t *Tree) Children(id int64) (children []*Perimeter) {
	at, found := t.place[id]
	if !found {
		return nil
	}
	for _, child := range t.nodes[at].children {
		if t.nodes[child].Live() {
			children = append(children, &t.nodes[child].Perimeter)
		}
	}
	return children
}

// Roots are the live perimeters without a parent.
func (t *Tree) Roots() (roots []*Perimeter) {
	for _, at := range t.roots {
		roots = append(roots, &t.nodes[at].Perimeter)
	}
	return roots
}

// OfCohort are the live perimeters whose virtual cohort this is.
func (t *Tree) OfCohort(cohortID string) (found []*Perimeter) {
	for _, at := range t.byCohort[cohortID] {
		found = append(found, &t.nodes[at].Perimeter)
	}
	return found
}

// OfCohorts are the live perimeters of any of the virtual cohorts, each once.
func (t *Tree) OfCohorts(cohortIDs []string) (found []*Perimeter) {
	seen := map[int64]bool{}
	for _, id := range cohortIDs {
		for _, p := range t.OfCohort(id) {
			if !seen[p.ID] {
				seen[p.ID] = true
				found = append(found, p)
			}
		}
	}
	return found
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
