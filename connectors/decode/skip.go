package decode

// skip checks the JSON value at b[i], to which nobody listens, and returns the
// position after it, or -1 after a failure. Level is that of what is around it.
func (d *Decoder) skip(b []byte, i, level int) int {
	d.stack = d.stack[:0] // the brackets that are open
	for {
		switch c := b[i]; {
		case c == '"':
			i = d.skipString(b, i)
		case c == '-' || c >= '0' && c <= '9':
			i = d.skipNumber(b, i)
		case c == '{':
			if level+len(d.stack) >= d.maxDepth {
				return d.tooDeep(i)
			}
			if i = space(b, i+1); b[i] != '}' {
				d.stack = append(d.stack, '}')
				if i = d.skipKey(b, i); i < 0 {
					return -1
				}
				continue
			}
			i++
		case c == '[':
			if level+len(d.stack) >= d.maxDepth {
				return d.tooDeep(i)
			}
			if i = space(b, i+1); b[i] != ']' {
				d.stack = append(d.stack, ']')
				continue
			}
			i++
		default:
			i = d.skipLiteral(b, i)
		}
		if i < 0 {
			return -1
		}
		var done bool
		if i, done = d.skipAfter(b, i); done {
			return i
		}
	}
}

// skipAfter closes what ends after a value and goes on to the next one; done
// when there is none, or after a failure.
func (d *Decoder) skipAfter(b []byte, i int) (next int, done bool) {
	for {
		top := len(d.stack) - 1
		if top < 0 {
			return i, true
		}
		i = space(b, i)
		switch {
		case b[i] == d.stack[top]:
			d.stack = d.stack[:top]
			i++
		case b[i] != ',':
			if d.stack[top] == '}' {
				return d.syntax(b, i, `"," or "}"`), true
			}
			return d.syntax(b, i, `"," or "]"`), true
		case d.stack[top] == ']':
			return space(b, i+1), false
		default:
			i = d.skipKey(b, space(b, i+1))
			return i, i < 0
		}
	}
}

// skipKey checks a key and its colon and returns the position of the value.
func (d *Decoder) skipKey(b []byte, i int) int {
	if b[i] != '"' {
		return d.syntax(b, i, "a key in double quotes")
	}
	if i = d.skipString(b, i); i < 0 {
		return -1
	}
	if i = space(b, i); b[i] != ':' {
		return d.syntax(b, i, `":" after the key`)
	}
	return space(b, i+1)
}

func (d *Decoder) skipLiteral(b []byte, i int) int {
	for _, w := range [...]string{"null", "true", "false"} {
		if string(b[i:i+len(w)]) == w {
			return i + len(w)
		}
	}
	return d.syntax(b, i, "a value")
}

func (d *Decoder) tooDeep(i int) int {
	return d.failf(ruleTooDeep, "nested more than %d levels deep at byte %d", d.maxDepth, d.pos(i))
}
