package access

// Mailer sends what users must know about their accesses.
type Mailer interface{}
