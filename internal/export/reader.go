package export

import (
	"slices"

	"cohortflow/internal/platform/jsonscan"
)

// batchRows is how many rows travel together from the reader to the writer.
const batchRows = 512

// batch is rows of one width: their cells lie end to end in one slice, so that a row costs no allocation.
type batch struct {
	width    int
	rows     int
	data     []byte
	ends     []int  // end of each cell in data
	numbers  []bool // the cell was a JSON number
	patients []string
}

func (b *batch) reset(width int) {
	b.width, b.rows = width, 0
	b.data, b.ends, b.numbers, b.patients = b.data[:0], b.ends[:0], b.numbers[:0], b.patients[:0]
}

// cell is the text of a cell, and whether it is a number.
func (b *batch) cell(row, column int) (text []byte, number bool) {
	i := row*b.width + column
	from := 0
	if i > 0 {
		from = b.ends[i-1]
	}
	return b.data[from:b.ends[i]], b.numbers[i]
}

func (b *batch) add(text []byte, number bool) {
	b.data = append(b.data, text...)
	b.close(number)
}

// close ends the cell whose text was appended to data.
func (b *batch) close(number bool) {
	b.ends, b.numbers = append(b.ends, len(b.data)), append(b.numbers, number)
}

// cut leaves the first rows only.
func (b *batch) cut(rows int) {
	cells, end := rows*b.width, 0
	if cells > 0 {
		end = b.ends[cells-1]
	}
	b.rows, b.data, b.ends, b.numbers = rows, b.data[:end], b.ends[:cells], b.numbers[:cells]
	b.patients = b.patients[:min(rows, len(b.patients))]
}

// empty gives a batch back without rows.
func (b *batch) empty() *batch { b.reset(b.width); return b }

// copyRow appends the cells of a row of another batch.
func (b *batch) copyRow(from *batch, row int) {
	for column := range from.width {
		b.add(from.cell(row, column))
	}
}

// reader takes the rows of one table out of resources.
type reader struct {
	columns []bound
	levels  []level // the resource, then the elements of each array that is exploded
	require int     // slot of the resource, -1: none
	arrays  []int   // slot of the array to explode, by level
	inner   []int   // slot of the same array inside of its elements, -1: it is not nested
	answers []int   // slot of the answers inside of its elements, which may hold it too
	patient *bound  // nil unless the patients of rows are wanted
	only    *bound  // the questionnaire of a response, nil: of any
	among   []string
	scratch []byte
}

// level is what is wanted of one object: a tree of the members to look into, and a slot for each value to remember.
type level struct {
	root  node
	slots [][]byte
}

// node is a member that holds something wanted.
type node struct {
	key      string
	scalar   int // slot of the first scalar found here, -1: none is wanted
	raw      int // slot of the whole value
	children []*node
	// usual is what the members were at each position lately: resources of one type have theirs in one order, and comparing
	// is faster than reading a key and looking it up.
	usual   []member
	learned int
}

// member is a key as it is written, with quotes and colon, and the node that it leads to.
type member struct {
	lead string
	node *node
}

// maxLearned ends the learning where resources have no order.
const maxLearned = 200

// next finds the node of the member at a position, nil for one that nobody wants, and where its value begins.
func (n *node) next(b []byte, i, position int) (child *node, at int, err error) {
	if position < len(n.usual) {
		if m := &n.usual[position]; len(b)-i > len(m.lead) && string(b[i:i+len(m.lead)]) == m.lead {
			return m.node, jsonscan.Space(b, i+len(m.lead)), nil
		}
	}
	key, at, err := jsonscan.Key(b, i)
	if err != nil {
		return nil, at, err
	}
	child = n.child(key)
	// One whose key is written with escapes, or with blanks around it, is not learned.
	if end := i + len(key) + 3; position <= len(n.usual) && n.learned < maxLearned && end <= at && string(b[end-2:end]) == `":` {
		n.learned++
		learned := member{string(b[i:end]), child}
		if position == len(n.usual) {
			n.usual = append(n.usual, learned)
		} else {
			n.usual[position] = learned
		}
	}
	return child, at, nil
}

func newLevel() level { return level{root: node{scalar: -1, raw: -1}} }

// at is the node of a path, made if need be.
func (l *level) at(path []step) *node {
	n := &l.root
	for _, s := range path {
		i := slices.IndexFunc(n.children, func(c *node) bool { return c.key == s.key })
		if i < 0 {
			n.children = append(n.children, &node{key: s.key, scalar: -1, raw: -1})
			i = len(n.children) - 1
		}
		n = n.children[i]
	}
	return n
}

func (l *level) slot(n *int) int {
	if *n < 0 {
		*n = len(l.slots)
		l.slots = append(l.slots, nil)
	}
	return *n
}

// whole is the slot of a whole member.
func (l *level) whole(key string) int { return l.slot(&l.at([]step{{key: key}}).raw) }

// fill reads the object that b begins with once, and remembers what is wanted of it. It is as strict as jsonscan.Value.
func (l *level) fill(b []byte) (end int, err error) {
	clear(l.slots)
	return l.root.value(b, jsonscan.Space(b, 0), 0, l.slots)
}

// value reads the value of the node's member, which lies in depth others.
func (n *node) value(b []byte, at, depth int, slots [][]byte) (end int, err error) {
	if at >= len(b) {
		return at, jsonscan.ErrIncomplete
	}
	if depth >= jsonscan.MaxDepth && (b[at] == '{' || b[at] == '[') {
		return at, jsonscan.ErrSyntax
	}
	switch {
	case b[at] == '{' && n.children != nil:
		end, err = n.members(b, at, depth+1, slots)
	case b[at] == '[' && (n.children != nil || n.scalar >= 0):
		end, err = n.elements(b, at, depth+1, slots)
	default:
		end, err = jsonscan.Nested(b, at, depth)
		if c := b[at]; n.scalar >= 0 && slots[n.scalar] == nil && c != '{' && c != '[' && c != 'n' {
			slots[n.scalar] = b[at:end]
		}
	}
	return end, err
}

func (n *node) members(b []byte, at, depth int, slots [][]byte) (int, error) {
	i := jsonscan.Space(b, at+1)
	if i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	for position := 0; ; position++ {
		child, at, err := n.next(b, i, position)
		if err != nil {
			return at, err
		}
		if child == nil {
			i, err = jsonscan.Nested(b, at, depth)
		} else if i, err = child.value(b, at, depth, slots); child.raw >= 0 && slots[child.raw] == nil {
			slots[child.raw] = b[at:i] // of members of one name the first counts, here as elsewhere
		}
		if err != nil {
			return i, err
		}
		var last bool
		if i, last, err = jsonscan.Next(b, i, '}'); err != nil || last {
			return i, err
		}
		i = jsonscan.Space(b, i)
	}
}

func (n *node) elements(b []byte, at, depth int, slots [][]byte) (int, error) {
	i := jsonscan.Space(b, at+1)
	if i < len(b) && b[i] == ']' {
		return i + 1, nil
	}
	for {
		end, err := n.value(b, i, depth, slots)
		if err != nil {
			return end, err
		}
		end, last, err := jsonscan.Next(b, end, ']')
		if err != nil || last {
			return end, err
		}
		i = jsonscan.Space(b, end)
	}
}

func (n *node) child(key []byte) *node {
	for _, c := range n.children {
		if len(c.key) == len(key) && c.key == string(key) {
			return c
		}
	}
	return nil
}

// bound is an accessor whose values have been given slots.
type bound struct {
	accessor
	level int
	slots []int
	steps [][]step // by alternative; nil: the slot holds the value itself
	quick bool     // nothing but the values of slots, or the ids in them
}

func (r *reader) bind(a accessor, depth int) bound {
	b := bound{accessor: a, level: depth - a.level, quick: a.constant == "" && !a.base64}
	l := &r.levels[b.level]
	if a.pivot != "" {
		b.slots, b.steps, b.quick = []int{l.whole("item")}, make([][]step, 1), false
		return b
	}
	for _, steps := range a.alternatives {
		if a.plain(steps) {
			b.slots, b.steps = append(b.slots, l.slot(&l.at(steps).scalar)), append(b.steps, nil)
		} else {
			b.quick = false
			b.slots, b.steps = append(b.slots, l.whole(steps[0].key)), append(b.steps, steps)
		}
	}
	return b
}

func (r *reader) append(dst []byte, b *bound) ([]byte, bool) {
	values := r.levels[b.level].slots
	if b.quick {
		for _, slot := range b.slots {
			if v := values[slot]; v != nil && string(v) != `""` {
				from := len(dst)
				dst, number := appendScalar(dst, v)
				if b.id {
					dst = keepID(dst, from)
				}
				return dst, number
			}
		}
		return dst, false
	}
	return b.accessor.append(dst, func(i int) (found, bool) {
		if i == len(b.slots) {
			return found{}, false
		}
		return found{values[b.slots[i]], b.steps[i]}, true
	})
}

// newReader prepares to read the columns; withPatients makes it note the patient of each row.
func newReader(p planned, withPatients bool) *reader {
	t := p.table
	r := &reader{require: -1, among: p.questionnaires}
	for range 1 + len(t.explode) {
		r.levels = append(r.levels, newLevel())
	}
	for _, c := range p.columns {
		r.columns = append(r.columns, r.bind(c.accessor, len(t.explode)))
	}
	for i, key := range t.explode {
		r.arrays, r.inner, r.answers = append(r.arrays, r.levels[i].whole(key)), append(r.inner, -1), append(r.answers, -1)
		if key == "item" {
			r.inner[i], r.answers[i] = r.levels[i+1].whole(key), r.levels[i+1].whole("answer")
		}
	}
	if t.require != "" {
		r.require = r.levels[0].whole(t.require)
	}
	if withPatients && t.patient != "" {
		b := r.bind(mustAccessor(t.patient), 0)
		r.patient = &b
	}
	if len(r.among) > 0 {
		b := r.bind(mustAccessor("questionnaire:id"), 0)
		r.only = &b
	}
	return r
}

// mustAccessor is for accessors that the catalogue's test has compiled.
func mustAccessor(text string) accessor {
	a, err := compileAccessor(text)
	if err != nil {
		panic(err)
	}
	return a
}

// rows appends the rows of the resource that b begins with, and tells where it ends.
func (r *reader) rows(b []byte, out *batch) (end int, err error) {
	end, err = r.levels[0].fill(b)
	if err != nil || r.require >= 0 && r.levels[0].slots[r.require] == nil {
		return end, err
	}
	if r.only != nil {
		r.scratch, _ = r.append(r.scratch[:0], r.only)
		if !slices.Contains(r.among, string(r.scratch)) {
			return end, nil
		}
	}
	return end, r.emit(0, out)
}

// emit appends a row, or goes down into the elements of the next array.
func (r *reader) emit(depth int, out *batch) error {
	if depth < len(r.arrays) {
		return r.elements(r.levels[depth].slots[r.arrays[depth]], depth, out)
	}
	for i := range r.columns {
		var number bool
		out.data, number = r.append(out.data, &r.columns[i])
		out.close(number)
	}
	if r.patient != nil {
		r.scratch, _ = r.append(r.scratch[:0], r.patient)
		out.patients = append(out.patients, string(r.scratch))
	}
	out.rows++
	return nil
}

// elements appends the rows of the elements of an array, and of those arrays of the same name that they hold.
func (r *reader) elements(array []byte, depth int, out *batch) (err error) {
	scanned := jsonscan.Elements(array, func(element []byte) bool {
		if c := element[0]; c != '{' && c != '[' {
			clear(r.levels[depth+1].slots) // no object: a row of what is around it
		} else if _, err = r.levels[depth+1].fill(element); err != nil {
			return false
		}
		if r.inner[depth] < 0 {
			err = r.emit(depth+1, out)
			return err == nil
		}
		inner, answers := r.levels[depth+1].slots[r.inner[depth]], r.levels[depth+1].slots[r.answers[depth]]
		if err = r.emit(depth+1, out); err == nil {
			err = r.elements(inner, depth, out)
		}
		_ = jsonscan.Elements(answers, func(answer []byte) bool {
			if err == nil {
				err = r.elements(itemsOf(answer), depth, out)
			}
			return err == nil
		})
		return err == nil
	})
	if err == nil {
		err = scanned
	}
	return err
}
