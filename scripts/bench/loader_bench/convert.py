#!/usr/bin/env python3
"""Writes model.safetensors again in the format of tensorizer, durable: python convert.py IN.safetensors OUT.tensors"""

import os
import sys
from pathlib import Path

from safetensors.torch import load_file
from tensorizer import TensorSerializer


def main():
    source, target = map(Path, sys.argv[1:])
    partial = target.with_suffix(".partial")
    serializer = TensorSerializer(str(partial))
    serializer.write_state_dict(load_file(source))
    serializer.close()
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    partial.rename(target)


if __name__ == "__main__":
    sys.exit(main())
