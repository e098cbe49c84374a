package main

import (
	"fmt"

	"github.com/tidemill/tidemill/internal/ortlib"
)

// pin is one way to one library file. The packages are built apart, so their files differ.
type pin struct {
	source  string // pip, npm or release
	size    int    // of the download, MB; 0: unknown
	member  string // path of the library in the archive
	sha256  string // of the library; "": it must be one that another source of the platform has
	wheel   string // pip: platform tag
	release string // release: archive name
}

func (p pin) String() string {
	size := ""
	if p.size > 0 {
		size = fmt.Sprintf(", about %d MB", p.size)
	}
	what := map[string]string{"pip": "the Python package onnxruntime", "npm": "the Node package onnxruntime-node", "release": "the release archive " + p.release}[p.source]
	return what + " (" + p.source + size + ")"
}

const v = ortlib.Version

// pins are tried in order, the smaller package first. The release archives are
// the last resort: what is in them was not seen when this was written, so their
// library is used only if it is the same file that a package has.
var pins = map[string][]pin{
	"linux/amd64": {
		{source: "pip", size: 19, wheel: "manylinux_2_28_x86_64", member: "onnxruntime/capi/libonnxruntime.so." + v,
			sha256: "b5c9d4f124d24707f514dad926dc181820807178855df1c528e3addb2dd0e6f7"},
		{source: "npm", size: 101, member: "package/bin/napi-v6/linux/x64/libonnxruntime.so.1",
			sha256: "d8aff4aa8abee8fb2abb2f2f2459ffc94461e781e41b9f7c072829dd0d470221"},
		{source: "release", release: "onnxruntime-linux-x64-" + v + ".tgz", member: "onnxruntime-linux-x64-" + v + "/lib/libonnxruntime.so." + v},
	},
	"linux/arm64": {
		{source: "pip", size: 17, wheel: "manylinux_2_28_aarch64", member: "onnxruntime/capi/libonnxruntime.so." + v,
			sha256: "9275ef52956228686ae47b0219f67476a1148505084bdc5571e7bf1bf69b11f2"},
		{source: "npm", size: 101, member: "package/bin/napi-v6/linux/arm64/libonnxruntime.so.1",
			sha256: "c36bc200e7e6c093b8abb0b34590fbdd8c52fd3fb5e33795b9523ffdde2fce0f"},
		{source: "release", release: "onnxruntime-linux-aarch64-" + v + ".tgz", member: "onnxruntime-linux-aarch64-" + v + "/lib/libonnxruntime.so." + v},
	},
	"darwin/arm64": {
		{source: "pip", size: 18, wheel: "macosx_14_0_arm64", member: "onnxruntime/capi/libonnxruntime." + v + ".dylib",
			sha256: "3d832017d60a8a1e078f7051ea3601374453f5451ffe95b70db1131aa7d37e06"},
		{source: "npm", size: 101, member: "package/bin/napi-v6/darwin/arm64/libonnxruntime." + v + ".dylib",
			sha256: "89f692a3a1a224e4ad0b796b0e7c0bd81113b0741bfe84211eceef14d05a9e59"},
		{source: "release", release: "onnxruntime-osx-arm64-" + v + ".tgz", member: "onnxruntime-osx-arm64-" + v + "/lib/libonnxruntime." + v + ".dylib"},
	},
}
