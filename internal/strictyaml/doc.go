// Package strictyaml reads the YAML that people write for Tidemill, and says
// everything that is wrong with it at once, each with line and field.
//
// [Read] turns a file into a tree of [Node]s: one document, UTF-8, bounded in
// size, with anchors and merge keys resolved and repeated keys refused.
// [Spec.Check] holds the tree against a [Spec], the one description of a
// format: names, kinds, patterns, defaults and what each field is for.
// [Spec.JSONSchema] turns the same description into what editors complete and
// check against, so the two cannot drift apart.
//
// What a field means, and whether fields fit each other, is for the packages
// whose format it is: they read the checked tree with [Node.Get] and add
// their own problems with [Node.Problem].
package strictyaml
