#!/usr/bin/env bash
# Everything about speed on a CUDA machine, in one JSON: benchmarks/gpu.sh [OUT.json]
# pipeline: frames/s and stages beside their floors; reference: the published pipeline's work beside ours, both in
# float32; reference-bf16: ours in bfloat16, which may differ by more; files: end to end.
# Frames are generated on the device; end to end with files only where PyAV is installed.
# DEVICE=cpu TINY=1 tries the script itself, in tiny sizes; PYTHON names the interpreter.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(realpath "${1:-gpu.json}")
device=${DEVICE:-cuda} python=${PYTHON:-python3}
export PYTHONPATH=$here/../src${PYTHONPATH:+:$PYTHONPATH}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

pipeline=(--device "$device") reference=(--device "$device" --frames 8 --repeat 3) files=(--device "$device" --frames 100)
if [ -n "${TINY:-}" ]; then
  pipeline+=(--sizes 96x64 --frames 3 --attributes hair --paper-size 96x64 --paper-frames 3 --paper-flow raft-small)
  pipeline+=(--short-side 32 --matrix 256 --copied 1000000 --strict-engines torch) # bfloat16 may be slow on a CPU
  reference=(--device "$device" --frames 1 --size 96x64 --short-side 32 --stride 8 --flow raft-small)
  files=(--device "$device" --frames 3 --sizes 96x64 --presets strict --attributes hair)
fi

# The whole must end within eight minutes; what does not is left out, and said so.
step() {
  local name=$1 left=$((470 - SECONDS))
  shift
  echo "== $name (${SECONDS}s)"
  timeout "$left" "$python" "$@" --json "$scratch/$name.json" || echo "$name ended with status $?" | tee "$scratch/$name.failed"
}
step pipeline "$here/device_speed.py" "${pipeline[@]}"
step reference "$here/reference_cost.py" "${reference[@]}"
step reference-bf16 "$here/reference_cost.py" "${reference[@]}" --engine torch-bf16 --limit 0.05
if "$python" -c "import av" 2> "$scratch/no-av.log"; then
  step files "$here/speed.py" "${files[@]}"
fi

"$python" - "$scratch" "$out" "$SECONDS" << 'PYTHON'
import json, pathlib, sys

scratch, out, seconds = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
document = {path.stem: json.loads(path.read_text()) for path in sorted(scratch.glob("*.json"))}
document["failed"] = [path.read_text().strip() for path in sorted(scratch.glob("*.failed"))]
document["seconds"] = seconds
out.write_text(json.dumps(document, indent=2) + "\n")
print(f"wrote {out}: {', '.join(document)}; {seconds} s")
sys.exit(bool(document["failed"]))
PYTHON
