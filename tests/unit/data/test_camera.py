"""A camera over textured ground: pixels move as captions say, and nothing held out is shown."""

from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest

from genvlm.config.data import CameraSource, DataConfig
from genvlm.config.schema import parse_config, to_plain
from genvlm.config.video_tokenizer import VideoVQTrainConfig
from genvlm.data import camera
from genvlm.data.camera import MAX_FRAMES, CameraClip, Motion, sample_camera_clips
from genvlm.data.emoji import UNSEEN_VENDOR, load_drawings
from genvlm.data.grounds import coloured_noise
from genvlm.data.sources import count_visuals, read_source
from genvlm.errors import DataError

CLIPS = list(sample_camera_clips(60, seed=0, vendors=("noto", "twemoji")))


def of_motion(motion: Motion, num: int) -> list[CameraClip]:
    return [clip for clip in CLIPS if clip.motion == motion][:num]


def displacement(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Rows and columns by which `after` lies displaced, at the peak of the phase correlation."""
    window = np.hanning(len(before))[:, None] * np.hanning(len(before))
    a, b = (np.fft.fft2((f.mean(-1) - f.mean()) * window) for f in (before, after))
    cross = b * a.conj()
    peak = np.fft.ifft2(cross / np.maximum(np.abs(cross), 1e-9)).real.argmax()
    shift = np.array(np.unravel_index(peak, before.shape[:2]))
    return (shift + 32) % 64 - 32


def slope(picture: np.ndarray) -> float:
    """Exponent by which the amplitude of a square grey picture falls with frequency."""
    side = len(picture)
    window = np.hanning(side)[:, None] * np.hanning(side)
    power = np.abs(np.fft.fft2((picture - picture.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)) * side
    edges = np.geomspace(3, side * 0.4, 9)
    means = [
        np.log(power[(low <= frequency) & (frequency < high)].mean()) / 2
        for low, high in pairwise(edges)
    ]
    return float(-np.polyfit(np.log(edges[:-1] * edges[1:]) / 2, means, 1)[0])


def test_a_clip_depends_on_seed_and_number_alone() -> None:
    again = list(sample_camera_clips(3, seed=0, vendors=("noto", "twemoji")))
    assert again == CLIPS[:3]
    assert list(sample_camera_clips(3, seed=1)) != list(sample_camera_clips(3, seed=0))
    for clip, same in zip(CLIPS[:3], again, strict=True):
        frames = clip.render()
        assert (frames.shape, frames.dtype) == ((17, 64, 64, 3), np.uint8)
        np.testing.assert_array_equal(frames, same.render())


def test_a_camera_that_pans_by_whole_pixels_shows_the_same_pixels_displaced() -> None:
    (clip,) = of_motion("pan", 1)
    frames = replace(clip, start=(90.25, 90.75), velocity=(-1.0, 2.0)).render()
    for before, after in pairwise(frames):
        np.testing.assert_array_equal(before[:-1, 2:], after[1:, :-2])
    half = replace(clip, start=(90.0, 90.0), velocity=(0.5, 0.0)).render()
    np.testing.assert_array_equal(half[0, 1:], half[2, :-1])
    assert (half[0] != half[1]).mean() > 0.5


def test_what_a_panning_camera_sees_moves_against_the_captions_direction() -> None:
    directions = set()
    for clip in of_motion("pan", 12):
        frames = clip.render()
        speed = np.hypot(*clip.velocity)
        assert 0.3 <= speed <= 3
        later = min(16, int(12 / speed))
        found = displacement(frames[0], frames[later])
        assert np.abs(found + later * np.array(clip.velocity)).max() <= 1, clip.caption
        assert f" pans {clip.direction} over the " in clip.caption
        directions.add(clip.direction)
    assert len(directions) >= 6


@pytest.mark.parametrize(
    ("velocity", "said"),
    [((0, -1), "left"), ((0, 1), "right"), ((-2, 0), "up"), ((1, 0), "down"),
     ((-1, 1), "up and right"), ((1, -2), "down and left")],
)  # fmt: skip
def test_directions_are_named_as_a_viewer_sees_them(
    velocity: tuple[float, float], said: str
) -> None:
    assert replace(CLIPS[0], velocity=velocity).direction == said


def test_a_direction_along_one_axis_is_exact_and_others_are_well_off_both() -> None:
    slopes = [np.sort(np.abs(c.velocity)) for c in CLIPS if c.motion != "zoom"]
    ratios = [low / high for low, high in slopes]
    assert all(r == 0 or r > np.tan(np.deg2rad(14.9)) for r in ratios)
    assert 0.2 < np.mean([r == 0 for r in ratios]) < 0.8


def test_zooming_in_enlarges_the_middle_by_the_factor_of_the_clip() -> None:
    zooms = of_motion("zoom", 20)
    ways = [[clip for clip in zooms if (clip.zoom > 1) == way][:3] for way in (True, False)]
    assert all(ways)
    for clip in chain(*ways):
        assert 0.98 <= clip.zoom <= 1.02
        assert f"the camera zooms {'in on' if clip.zoom > 1 else 'out from'} the" in clip.caption
        frames = clip.render().astype(float)
        wide, near = (frames[0], frames[-1]) if clip.zoom > 1 else (frames[-1], frames[0])
        factor = max(clip.zoom, 1 / clip.zoom) ** 16
        errors = []
        for magnified in (factor, 1.0, 1 / factor):
            at = np.round((np.arange(64) + 0.5 - 32) / magnified + 31.5).astype(int)
            inside = (at >= 0) & (at < 64)
            shown = wide[np.ix_(at[inside], at[inside])]
            errors.append(np.abs(shown - near[np.ix_(inside, inside)]).mean())
        assert errors[0] < 0.7 * min(errors[1:]), clip.caption


def test_before_a_still_camera_the_subject_alone_moves_as_the_caption_says() -> None:
    for clip in of_motion("move", 8):
        subject = clip.drawings[-1]
        said = f"the still camera sees the {subject.concept.label} move {clip.direction}"
        assert clip.caption.startswith(said)
        frames = clip.render().astype(float)
        ground = replace(clip, motion="pan", velocity=(0, 0), drawings=clip.drawings[:-1])
        changed = np.abs(frames - ground.render()).max(-1) > 1
        rows, columns = np.indices((64, 64)) + 0.5
        for time in (0, 8):
            centre = np.array(subject.centre) - clip.start + 32 + time * np.array(clip.velocity)
            distance = np.hypot(rows - centre[0], columns - centre[1])
            assert not changed[time][distance > subject.size * 0.71 + 2].any()
            assert changed[time][distance < subject.size * 0.71 + 2].sum() > subject.size**2 / 12
            if distance[[0, -1]].min() > 20 and distance[:, [0, -1]].min() > 20:
                found = np.argwhere(changed[time]).mean(0) + 0.5
                assert np.abs(found - centre).max() < subject.size / 4


def test_the_caption_names_what_is_seen_first_and_nothing_else() -> None:
    (clip,) = of_motion("pan", 1)
    cat, tree, bus, far, under = (
        replace(clip.drawings[0], concept=concept, centre=centre, size=size, degrees=0.0)
        for concept, centre, size in zip(
            camera._concepts(), [(80, 80), (80, 112), (112, 57), (20, 20), (111, 105)],
            (30, 30, 30, 30, 20), strict=False,
        )
    )  # fmt: skip
    subject = replace(cat, concept=camera._concepts()[9], centre=(110, 105))
    shot = replace(
        clip,
        start=(96.0, 96.0),
        velocity=(0.0, -1.0),
        drawings=(under, cat, tree, bus, far, subject),
    )
    names = [d.concept.label for d in (subject, cat, tree)]
    said = f"the camera pans left over the {names[0]}, the {names[1]} and the {names[2]}"
    # `bus` is less than half in view, `far` not at all, and `under` lies under the subject.
    assert shot.caption == said
    moved = replace(bus, centre=(112, 66))
    both = replace(shot, drawings=(*shot.drawings[:3], moved, subject))
    assert bus.concept.label in both.caption


def test_the_subject_is_in_view_at_first_and_no_view_leaves_the_canvas() -> None:
    for frames in (2, 17, 33, MAX_FRAMES):
        for clip in sample_camera_clips(25, seed=5, num_frames=frames):
            subject = clip.drawings[-1]
            alone = replace(clip, drawings=(subject, replace(subject, size=1, centre=(-9, -9))))
            assert subject in alone.seen
            reach = 32 * clip._scales[:, None]
            assert (clip._view_centres - reach).min() >= 2
            assert (clip._view_centres + reach).max() <= camera.CANVAS - 2
            off = np.abs(clip._subject_centres - clip._view_centres)
            assert clip.motion == "pan" or off.max() <= 32 + 1e-6


def test_held_out_families_and_other_vendors_never_occur(monkeypatch: pytest.MonkeyPatch) -> None:
    many = list(sample_camera_clips(150, seed=3))
    shown = [d.concept for clip in many for d in clip.drawings]
    assert len({c.id for c in shown}) > 300
    assert not any(c.held_out for c in shown)
    assert all(len({d.concept for d in c.drawings}) == len(c.drawings) for c in many)
    asked = []
    monkeypatch.setattr(
        camera, "load_drawings", lambda vendor: asked.append(vendor) or load_drawings(vendor)
    )
    for clip in CLIPS[:6]:
        clip.render()
    assert set(asked) == {"noto", "twemoji"}
    assert UNSEEN_VENDOR not in asked


def test_a_drawing_is_cut_out_and_the_white_within_it_stays() -> None:
    drawing = np.full((64, 64, 3), 255, np.uint8)
    drawing[10:50, 10:50] = (200, 0, 0)
    drawing[20:30, 20:30] = 255
    drawing[9, 10:50] = (228, 128, 128)  # a rim that is half white
    cut = camera._cut(drawing)
    assert (cut[:9, :, 3] == 0).all()
    assert (cut[20:30, 20:30] == 255).all()
    np.testing.assert_allclose(cut[9, 20], (200, 0, 0, 127), atol=3)


def test_values_and_spectra_are_those_of_natural_pictures() -> None:
    firsts = np.stack([clip.render()[0] for clip in CLIPS[:24]]).astype(float)
    assert 70 < firsts.mean() < 185
    assert 30 < np.median(firsts.std((1, 2, 3))) < 80
    assert (np.isin(firsts, (0, 255))).mean() < 0.1
    slopes = [slope(picture.mean(-1)) for picture in firsts]
    assert 0.9 < np.mean(slopes) < 1.7
    # Every place is textured: few neighbours are equal, as nearly all are on white.
    assert (np.diff(firsts, axis=2) == 0).all(-1).mean() < 0.2


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_the_noise_of_a_ground_falls_as_its_exponent_says(alpha: float) -> None:
    noise = coloured_noise(np.random.default_rng(0), alpha, 192)
    np.testing.assert_allclose(noise.std((0, 1)), 1)
    assert np.mean([slope(noise[..., c]) for c in range(3)]) == pytest.approx(alpha, abs=0.15)


def test_a_source_gives_pairs_of_captions_and_clips_and_survives_its_file() -> None:
    source = CameraSource(num=2, num_frames=5, vendors=("twemoji", "noto"), seed=4)
    clips = list(sample_camera_clips(2, 4, 5, vendors=("twemoji", "noto")))
    readings = list(read_source(source, "x"))
    assert count_visuals(source) == len(readings) == 2
    for reading, clip in zip(readings, clips, strict=True):
        assert (reading.sample.segments, reading.sample.kind) == ((clip.caption, 0), "pair")
        np.testing.assert_array_equal(reading.visuals()[0], clip.render())
    for config in (
        DataConfig(sources=(source,)),
        VideoVQTrainConfig(sources=(source,), num_frames=5, num_steps=1),
    ):
        assert parse_config(type(config), to_plain(config), "x") == config


@pytest.mark.parametrize("num_frames", [1, MAX_FRAMES + 1])
def test_lengths_that_no_motion_fits_are_refused(num_frames: int) -> None:
    with pytest.raises(DataError, match=f"{num_frames} frames; choose num_frames of 2 to "):
        next(sample_camera_clips(1, seed=0, num_frames=num_frames))
