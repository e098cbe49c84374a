package s3

// SignPayloads makes s hash each payload into its signature, as it does for servers
// beyond the loopback that it reaches without TLS.
func (s *Store) SignPayloads() { s.unsigned = false }
