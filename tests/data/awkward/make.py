"""Makes the image files of this folder, one of each awkward kind: ``python tests/data/awkward/make.py``.

Out of the two photographs that scikit-learn carries (CC BY 2.0: flickr.com/photos/danielbuechele/6061409035 and
flickr.com/photos/vultilion/6056698931), so that decoders meet real pictures. They were made with
Pillow 13.0; another version may write other bytes of the same meaning.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

HERE = Path(__file__).parent


def main() -> None:
    china, flower = (Image.fromarray(image).resize((96, 64)) for image in load_sample_images().images)

    flower.save(HERE / "plain.png")
    flower.convert("CMYK").save(HERE / "cmyk.jpg")
    flower.convert("L").save(HERE / "grey.jpg")

    # 256 times the grey value and a remainder that has to go.
    deep = np.asarray(flower.convert("L")).astype(np.uint16) * 256 + 77
    Image.fromarray(deep).save(HERE / "sixteen-bits.png")

    palette = flower.quantize(16)
    palette.save(HERE / "palette.png", transparency=bytes([0, 128] + [255] * 14))
    flower.convert("RGBA").save(HERE / "alpha.png")

    china.save(HERE / "animated.gif", save_all=True, append_images=[flower], duration=100, loop=0)
    china.save(HERE / "animated.webp", save_all=True, append_images=[flower], duration=100, lossless=True)

    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    flower.transpose(Image.Transpose.ROTATE_90).save(HERE / "rotated.jpg", exif=exif, quality=95)

    flower.save(HERE / "truncated.jpg")
    whole = (HERE / "truncated.jpg").read_bytes()
    (HERE / "truncated.jpg").write_bytes(whole[: len(whole) // 2])

    Image.new("1", (12_000, 12_000)).save(HERE / "huge.png", optimize=True)
    (HERE / "empty.jpg").write_bytes(b"")
    (HERE / "text.png").write_text("<html>404: not found</html>\n", encoding="utf-8")


if __name__ == "__main__":
    main()
