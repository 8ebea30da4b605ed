"""Write a data set that scikit-learn ships as the input of a run.

    python examples/make_input.py diabetes.jsonl    442 patients, a line per pair of 11 measurements
    python examples/make_input.py digits.npy        1797 images of digits, a row of 64 pixels each

SPDX-License-Identifier: BSD-3-Clause
"""

import json
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes, load_digits


def pairs_of_columns() -> Iterator[dict[str, Any]]:
    """Yield each pair of the diabetes data's columns with their names, in natural units."""
    data = load_diabetes(scaled=False)
    columns = dict(zip(data.feature_names, data.data.T, strict=True)) | {"progression": data.target}
    for (x_name, x), (y_name, y) in combinations(columns.items(), 2):
        yield {"x_name": x_name, "y_name": y_name, "x": x.tolist(), "y": y.tolist()}


def main(output: Path) -> None:
    """Write the data set that ``output`` is named after."""
    match output.name:
        case "diabetes.jsonl":
            with output.open("w") as stream:
                for pair in pairs_of_columns():
                    stream.write(json.dumps(pair) + "\n")
        case "digits.npy":
            np.save(output, load_digits().data)
        case name:
            sys.exit(f"no data set is called {name}: diabetes.jsonl or digits.npy")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
