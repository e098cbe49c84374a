package checkpoint

import (
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/schema"
)

// kind is one of the actions that a checkpoint of ours has.
type kind int

// In the order of the rows of a row group.
const (
	kindProtocol kind = iota
	kindMetadata
	kindTxn
	kindAdd
	kindRemove
	numKinds
)

// The leaf columns, in the schema's order.
const (
	txnAppID = iota
	txnVersion
	txnLastUpdated

	addPath
	addPartitionKey
	addPartitionValue
	addSize
	addModificationTime
	addDataChange
	addStats
	addTagKey
	addTagValue

	removePath
	removeDeletionTimestamp
	removeDataChange
	removeExtended
	removePartitionKey
	removePartitionValue
	removeSize

	metaID
	metaName
	metaDescription
	metaProvider
	metaOptionKey
	metaOptionValue
	metaSchema
	metaPartitionColumn
	metaConfigurationKey
	metaConfigurationValue
	metaCreatedTime

	protocolReader
	protocolWriter

	numLeaves
)

var (
	optional = parquet.Repetitions.Optional
	required = parquet.Repetitions.Required
	repeated = parquet.Repetitions.Repeated
)

// newSchema returns the schema of the files that we write.
func newSchema() *schema.GroupNode {
	return group("schema", required,
		group("txn", optional,
			text("appId", required), long("version", required), long("lastUpdated", optional)),
		group("add", optional,
			text("path", required), pairs("partitionValues", required, optional), long("size", required),
			long("modificationTime", required), boolean("dataChange", required), text("stats", optional),
			pairs("tags", optional, optional)),
		group("remove", optional,
			text("path", required), long("deletionTimestamp", optional), boolean("dataChange", required),
			boolean("extendedFileMetadata", optional), pairs("partitionValues", optional, optional), long("size", optional)),
		group("metaData", optional,
			text("id", required), text("name", optional), text("description", optional),
			group("format", required, text("provider", required), pairs("options", required, required)),
			text("schemaString", required), list("partitionColumns", required),
			pairs("configuration", required, required), long("createdTime", optional)),
		group("protocol", optional,
			integer("minReaderVersion", required), integer("minWriterVersion", required)),
	)
}

func group(name string, rep parquet.Repetition, fields ...schema.Node) *schema.GroupNode {
	return schema.MustGroup(schema.NewGroupNode(name, rep, fields, -1))
}

func text(name string, rep parquet.Repetition) schema.Node {
	return schema.Must(schema.NewPrimitiveNodeLogical(name, rep, schema.StringLogicalType{}, parquet.Types.ByteArray, -1, -1))
}

func long(name string, rep parquet.Repetition) schema.Node { return schema.NewInt64Node(name, rep, -1) }

func integer(name string, rep parquet.Repetition) schema.Node {
	return schema.NewInt32Node(name, rep, -1)
}

func boolean(name string, rep parquet.Repetition) schema.Node {
	return schema.NewBooleanNode(name, rep, -1)
}

// pairs is a map of texts.
func pairs(name string, rep, value parquet.Repetition) schema.Node {
	entry := group("key_value", repeated, text("key", required), text("value", value))
	return schema.MustGroup(schema.NewGroupNodeLogical(name, rep, schema.FieldList{entry}, schema.MapLogicalType{}, -1))
}

// list is a list of texts.
func list(name string, rep parquet.Repetition) schema.Node {
	entry := group("list", repeated, text("element", required))
	return schema.MustGroup(schema.NewGroupNodeLogical(name, rep, schema.FieldList{entry}, schema.NewListLogicalType(), -1))
}
