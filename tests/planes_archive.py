"""A small copy of FETAL_PLANES_DB: the same table, folders and names, other pictures."""

from pathlib import Path

from picture_makers import save, speckle

HEADER = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "  # with the original's blank
ROWS = [
    ("Patient00001_Plane1_1_of_1", 1, "Other", "Not A Brain", 1),
    ("Patient00002_Plane2_1_of_1", 2, "Fetal abdomen", "Not A Brain", 1),
    ("Patient00002_Plane3_1_of_2", 2, "Fetal brain", "Trans-thalamic", 1),
    ("Patient00002_Plane3_2_of_2", 2, "Fetal brain", "Trans-cerebellum", 1),
    ("Patient00003_Plane3_1_of_1", 3, "Fetal brain", "Trans-ventricular", 1),
    ("Patient00004_Plane4_1_of_1", 4, "Maternal cervix", "Not A Brain", 0),
    ("Patient00005_Plane5_1_of_1", 5, "Fetal femur", "Not A Brain", 0),
    ("Patient00006_Plane6_1_of_1", 6, "Fetal thorax", "Not A Brain", 0),
    ("Patient00006_Plane3_1_of_1", 6, "Fetal brain", "Other", 0),
]


def write_archive(folder: Path) -> Path:
    """Write the unpacked archive."""
    lines = [HEADER]
    for seed, (name, patient, plane, brain, train) in enumerate(ROWS):
        save(folder / "Images" / f"{name}.png", speckle(seed=seed))
        lines.append(f"{name};{patient};{plane};{brain};Op. 1;Voluson;{train}")
    (folder / "FETAL_PLANES_DB_data.csv").write_text("\n".join(lines) + "\n")
    return folder
