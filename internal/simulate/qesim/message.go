package qesim

import "fmt"

// message is an error in the words of the real system, capital letters included: clients and operators search for them.
type message string

// Error is the text.
func (m message) Error() string { return string(m) }

func messagef(format string, args ...any) error { return message(fmt.Sprintf(format, args...)) }
