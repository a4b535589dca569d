package hospital

import (
	"fmt"
	"math/bits"
)

// Set is a set of indexes (of patients, or of the records of one kind). Sets that meet must be of the same size.
type Set struct {
	words []uint64
	size  int
}

// NewSet returns an empty set for the indexes 0 to size-1.
func NewSet(size int) *Set { return &Set{words: make([]uint64, (size+63)/64), size: size} }

// Add puts i into the set.
func (s *Set) Add(i int32) { s.words[i>>6] |= 1 << (uint(i) & 63) }

// Remove takes i out of the set.
func (s *Set) Remove(i int32) { s.words[i>>6] &^= 1 << (uint(i) & 63) }

// Has tells whether i is in the set.
func (s *Set) Has(i int32) bool { return s.words[i>>6]&(1<<(uint(i)&63)) != 0 }

// Count is the number of members.
func (s *Set) Count() int {
	n := 0
	for _, w := range s.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// Clone is a copy that can be changed.
func (s *Set) Clone() *Set { return &Set{words: append([]uint64(nil), s.words...), size: s.size} }

// And keeps what is also in o.
func (s *Set) And(o *Set) *Set {
	for i := range s.words {
		s.words[i] &= o.words[i]
	}
	return s
}

// Or adds what is in o.
func (s *Set) Or(o *Set) *Set {
	for i := range s.words {
		s.words[i] |= o.words[i]
	}
	return s
}

// Minus takes out what is in o.
func (s *Set) Minus(o *Set) *Set {
	for i := range s.words {
		s.words[i] &^= o.words[i]
	}
	return s
}

// Each calls f with every member, in order, until f returns false.
func (s *Set) Each(f func(i int32) bool) {
	for w, word := range s.words {
		for word != 0 {
			if !f(int32(w<<6 + bits.TrailingZeros64(word))) {
				return
			}
			word &= word - 1
		}
	}
}

// Ranges writes the set as closed intervals: compact on disk.
func (s *Set) Ranges() [][2]int32 {
	ranges := [][2]int32{}
	s.Each(func(i int32) bool {
		if n := len(ranges); n > 0 && ranges[n-1][1] == i-1 {
			ranges[n-1][1] = i
		} else {
			ranges = append(ranges, [2]int32{i, i})
		}
		return true
	})
	return ranges
}

// SetOf reads what Ranges wrote. Intervals outside of the size are an error: the set is of another hospital.
func SetOf(size int, ranges [][2]int32) (*Set, error) {
	s := NewSet(size)
	for _, r := range ranges {
		if r[0] < 0 || r[1] < r[0] || int(r[1]) >= size {
			return nil, fmt.Errorf("interval %d to %d does not fit a set of %d", r[0], r[1], size)
		}
		for i := r[0]; i <= r[1]; i++ {
			s.Add(i)
		}
	}
	return s, nil
}
