package hospital

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// firstListID is the first id given to a list: above those of the perimeters.
const firstListID = 1_000_001

// ErrNoList is the answer when no list and no perimeter has an id.
var ErrNoList = errors.New("no such list")

// List is a stored cohort: the members are indexes of the resources of Kind.
type List struct {
	ID         int64
	Title      string
	Owner      string
	Definition string // the whole query, as QueryExecutor got it: its instance_id is the cohort's uuid
	Kind       Kind
	Members    *Set
	Indexed    bool // false: a large cohort that the ETL has not indexed yet
}

// Lists is the store of the lists of patients that QueryExecutor makes and everybody reads. Each is a file; it survives a
// restart. The virtual cohorts of the perimeters are found here, too, without being stored.
type Lists struct {
	dir string
	h   *Hospital

	mu   sync.RWMutex
	byID map[int64]*List
	next int64
	sets int // how often a list was stored
}

type listFile struct {
	ID         int64      `json:"id"`
	Title      string     `json:"title"`
	Owner      string     `json:"owner"`
	Definition string     `json:"definition"`
	Kind       string     `json:"kind"`
	Indexed    bool       `json:"indexed"`
	Members    [][2]int32 `json:"members"`
}

// OpenLists reads the lists kept in a directory, which it makes if need be. An error names the file that does not fit.
func OpenLists(dir string, h *Hospital) (*Lists, error) {
	l := &Lists{dir: dir, h: h, byID: map[int64]*List{}, next: firstListID}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("lists: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("lists: %w", err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".json") {
			if err := l.load(filepath.Join(dir, entry.Name())); err != nil {
				return nil, fmt.Errorf("lists: %s: %w", entry.Name(), err)
			}
		}
	}
	return l, nil
}

func (l *Lists) load(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var f listFile
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	kind, ok := KindOf(f.Kind)
	if !ok {
		return fmt.Errorf("unknown kind %q", f.Kind)
	}
	members, err := SetOf(l.h.Count(kind), f.Members)
	if err != nil {
		return err
	}
	l.byID[f.ID] = &List{f.ID, f.Title, f.Owner, f.Definition, kind, members, f.Indexed}
	l.next = max(l.next, f.ID+1)
	return nil
}

// Put stores a list; one without an id gets the next one. It returns the id.
func (l *Lists) Put(list List) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if list.ID == 0 {
		list.ID = l.next
	}
	if err := l.write(&list); err != nil {
		return 0, fmt.Errorf("store list %d: %w", list.ID, err)
	}
	l.byID[list.ID] = &list
	l.next = max(l.next, list.ID+1)
	l.sets++
	return list.ID, nil
}

// Version changes whenever a list does: what was found by lists holds as long as it stays.
func (l *Lists) Version() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.sets
}

func (l *Lists) write(list *List) error {
	data, err := json.Marshal(listFile{list.ID, list.Title, list.Owner, list.Definition, list.Kind.String(), list.Indexed, list.Members.Ranges()})
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(l.dir, strconv.FormatInt(list.ID, 10)+".json"), data)
}

// MarkIndexed notes that the ETL has indexed a large cohort.
func (l *Lists) MarkIndexed(id int64) error {
	list, err := l.Get(id)
	if err != nil {
		return err
	}
	list.Indexed = true
	_, err = l.Put(list)
	return err
}

// Get finds a list, or the virtual cohort of a perimeter (patients with an encounter in it or below). A stored list wins:
// a perimeter's cohort that was refreshed with existingCohortId is stored under its id. Members must not be changed.
func (l *Lists) Get(id int64) (List, error) {
	l.mu.RLock()
	list, ok := l.byID[id]
	l.mu.RUnlock()
	if ok {
		return *list, nil
	}
	if p, ok := l.h.PerimeterByCohort(id); ok {
		return List{ID: id, Title: l.h.perimeters[p].Name, Kind: Patients, Members: l.h.PatientsOf(p), Indexed: true}, nil
	}
	return List{}, fmt.Errorf("list %d: %w", id, ErrNoList)
}

// All returns the stored lists, in no order.
func (l *Lists) All() []List {
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := make([]List, 0, len(l.byID))
	for _, list := range l.byID {
		all = append(all, *list)
	}
	return all
}

// PatientsOf is the set of the patients of a list; of a list of other resources, those they belong to.
func (l *Lists) PatientsOf(id int64) (*Set, error) {
	list, err := l.Get(id)
	if err != nil {
		return nil, err
	}
	if list.Kind == Patients {
		return list.Members, nil
	}
	s := NewSet(l.h.Size())
	list.Members.Each(func(i int32) bool {
		s.Add(l.h.Row(list.Kind, i).P.Index)
		return true
	})
	return s, nil
}

// Population is the union of the patients of several lists; of none: everybody.
func (l *Lists) Population(ids []int64) (*Set, error) {
	if len(ids) == 0 {
		return l.h.Everybody(), nil
	}
	s := NewSet(l.h.Size())
	for _, id := range ids {
		one, err := l.PatientsOf(id)
		if err != nil {
			return nil, err
		}
		s.Or(one)
	}
	return s, nil
}

// WriteFile writes a file in one step: it is there whole, or as it was before. It survives the end of the process at any
// moment (not a loss of power: the doubles are no place for what must never be lost).
func WriteFile(path string, data []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".write-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		if remove := os.Remove(temporary.Name()); remove != nil && !errors.Is(remove, fs.ErrNotExist) {
			err = errors.Join(err, remove)
		}
	}
	return err
}
