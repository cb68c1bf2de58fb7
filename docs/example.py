"""Every job of edgeq on your own model: my_model.keras, and photos/ with one sub-folder per class."""

import edgeq

made = edgeq.convert("my_model.keras", "int8", calibration="photos", normalize="-1..1", labels="photos", refine=False)
fp32, int8 = made.models["fp32"], made.models["int8"]
print(f"converted: {fp32.path} of {fp32.size_bytes} bytes, {int8.path} of {int8.size_bytes} bytes")

refined = edgeq.refine(fp32.path, int8.path, calibration="photos")
change = refined.refinement
print(f"refined: L1 of probabilities {change.error_before:.4f} before, {change.error_after:.4f} after")

for image in edgeq.classify_all("photos/red", refined.path, top=1):
    print(f"classified: {image.file} as {image.predictions[0].label}")

drift = edgeq.compare(fp32.path, refined.path, "photos")
print(f"compared: the models agree on {drift.agreement:.1%} of {drift.images} images")

found = edgeq.inspect(refined.path, targets=["tflite-runtime"])
print(f"inspected: {'all integers' if found.full_integer else 'partly float'}, {found.multiply_adds} multiply-adds")

speed = edgeq.bench([fp32.path, refined.path], threads=[1], seconds=0.1)
for measured in speed.measurements:
    print(f"measured: {measured.model} takes {measured.median_ms:.3f} ms, {measured.runtime}, {measured.kernels}")

packed = edgeq.bundle(refined.path, "my_model.zip")
print(f"bundled: {packed.path} with {len(packed.files)} files")
