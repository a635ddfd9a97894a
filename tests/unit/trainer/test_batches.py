from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

import trainer.data.batches
from trainer.data.batches import Batches, augment, augmentation_table, batch_slices, epoch_order

CPU = torch.device("cpu")
SOURCES = ("resident", "prefetched", "direct")
PLAIN = torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])


def random_images(count: int = 6, size: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def batches_of(images: np.ndarray, *, source=None, statistics=None, device: torch.device = CPU) -> Batches:
    labels = np.arange(len(images), dtype=np.int64)
    return Batches(images, labels, device, statistics=statistics, source=source)


def one_batch(batches: Batches, indices: list[int], table: torch.Tensor | None = None):
    (batch,) = batches.iterate(np.array(indices), [slice(0, len(indices))], table)
    return batch


def scaled(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(255))


def row(
    *,
    left_right: int = 0,
    up_down: int = 0,
    swap: int = 0,
    contrast: float = 1,
    brightness: float = 1,
    saturation: float = 1,
) -> torch.Tensor:
    return torch.tensor([[left_right, up_down, swap, contrast, brightness, saturation]], dtype=torch.float32)


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> str:
    """Each place that batches are read from."""
    return request.param


@pytest.fixture
def threads() -> Iterator[list[int]]:
    """Numbers of threads for torch to compute with; puts back the one before."""
    before = torch.get_num_threads()
    yield [1, 2]
    torch.set_num_threads(before)


class TestOrder:
    def test_an_epoch_holds_every_image_once(self):
        indices = np.array([3, 5, 8, 13, 21, 34])
        assert sorted(epoch_order(indices, 23, 1).tolist()) == indices.tolist()

    def test_the_same_seed_and_epoch_give_the_same_order_whatever_the_global_state(self):
        indices = np.arange(50)
        torch.manual_seed(1)
        first = epoch_order(indices, 23, 4)
        torch.manual_seed(2)
        np.testing.assert_array_equal(epoch_order(indices, 23, 4), first)

    @pytest.mark.parametrize(("seed", "epoch"), [(23, 2), (24, 1), (2, 31), (231, 1)])
    def test_another_seed_or_epoch_gives_another_order(self, seed: int, epoch: int):
        indices = np.arange(50)
        assert epoch_order(indices, seed, epoch).tolist() != epoch_order(indices, 23, 1).tolist()

    def test_the_global_random_state_is_not_used(self):
        before = torch.get_rng_state()
        epoch_order(np.arange(9), 23, 1)
        augmentation_table(9, 23, 1)
        assert torch.equal(torch.get_rng_state(), before)

    def test_order_and_augmentation_do_not_depend_on_the_number_of_threads(self, threads: list[int]):
        drawn = []
        for number in threads:
            torch.set_num_threads(number)
            drawn.append((epoch_order(np.arange(100_000), 23, 1), augmentation_table(20_000, 23, 1)))
        np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
        assert torch.equal(drawn[0][1], drawn[1][1])


class TestSlices:
    @pytest.mark.parametrize(
        ("count", "batch_size", "sizes"),
        [
            (8, 4, [4, 4]),
            (9, 4, [4, 5]),
            (10, 4, [4, 4, 2]),
            (3, 4, [3]),
            (1, 4, [1]),
            (5, 2, [2, 3]),
            (33, 32, [33]),
        ],
    )
    def test_sizes(self, count: int, batch_size: int, sizes: list[int]):
        assert [part.stop - part.start for part in batch_slices(count, batch_size)] == sizes

    @pytest.mark.parametrize("count", range(1, 20))
    def test_the_batches_cover_everything_in_order(self, count: int):
        everything = list(range(count))
        assert [item for part in batch_slices(count, 4) for item in everything[part]] == everything


class TestIterate:
    def test_pixels_are_scaled_exactly_and_belong_to_their_labels(self, source: str):
        images = random_images()
        pixels, labels = one_batch(batches_of(images, source=source), [4, 0, 4])
        assert pixels.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert labels.tolist() == [4, 0, 4]
        assert torch.equal(pixels, scaled(images[[4, 0, 4]]))
        assert pixels.is_contiguous(memory_format=torch.channels_last)

    def test_every_value_is_divided_exactly(self):
        images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1).repeat(3, axis=3)
        pixels, _ = one_batch(batches_of(images), [0, 1, 2, 3])
        assert torch.equal(pixels, scaled(images))
        assert (pixels.min(), pixels.max()) == (0, 1)

    def test_batches_come_in_the_order_of_the_slices(self, source: str):
        images = random_images(23)
        order = epoch_order(np.arange(2, 23), 23, 1)
        slices = batch_slices(len(order), 4)
        # All are kept until the end: none may be overwritten by a later one.
        made = list(batches_of(images, source=source).iterate(order, slices))
        assert [labels.tolist() for _, labels in made] == [order[part].tolist() for part in slices]
        for part, (pixels, _) in zip(slices, made, strict=True):
            assert torch.equal(pixels, scaled(images[order[part]]))

    @pytest.mark.parametrize("statistics", [None, ((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))])
    @pytest.mark.parametrize("augmented", [False, True])
    def test_all_sources_give_the_same_bits(self, statistics, augmented: bool, tmp_path: Path):
        np.save(tmp_path / "images.npy", random_images(33, 6))
        images = np.load(tmp_path / "images.npy", mmap_mode="r")
        table = augmentation_table(len(images), 23, 1) if augmented else None
        order = epoch_order(np.arange(len(images)), 23, 1)
        slices = batch_slices(len(order), 4)
        direct, *others = (
            list(batches_of(images, source=source, statistics=statistics).iterate(order, slices, table))
            for source in ("direct", "prefetched", "resident")
        )
        assert len(direct) == 8
        for made in others:
            for (pixels, labels), (expected, expected_labels) in zip(made, direct, strict=True):
                assert torch.equal(pixels, expected)
                assert torch.equal(labels, expected_labels)

    def test_the_number_of_threads_changes_no_bit(self, source: str, threads: list[int]):
        images = random_images(9, 128)
        table = augmentation_table(len(images), 23, 1)
        order = epoch_order(np.arange(len(images)), 23, 1)
        slices = [slice(0, 1), slice(1, 3), slice(3, 9)]
        batches = batches_of(images, source=source, statistics=((0.4,) * 3, (0.3,) * 3))
        made = []
        for number in threads:
            torch.set_num_threads(number)
            made.append([pixels for pixels, _ in batches.iterate(order, slices, table)])
        for first, second in zip(*made, strict=True):
            assert torch.equal(first, second)

    def test_an_image_is_augmented_alike_wherever_it_stands(self):
        images = random_images(12, 40)
        table = augmentation_table(len(images), 23, 1)
        together, _ = one_batch(batches_of(images), list(range(12)), table)
        for index in range(12):
            alone, _ = one_batch(batches_of(images), [index], table)
            assert torch.equal(alone[0], together[index])

    def test_an_epoch_without_batches_is_empty(self, source: str):
        assert list(batches_of(random_images(), source=source).iterate(np.arange(6), [])) == []

    def test_more_images_than_one_upload_stay_in_order(self):
        images = random_images(count=600, size=2)
        indices = [599, 0, 255, 256, 511, 512]
        pixels, _ = one_batch(batches_of(images, source="resident"), indices)
        assert torch.equal(pixels, scaled(images[indices]))

    def test_the_dataset_is_left_as_it_was(self, source: str):
        images = random_images()
        before = images.copy()
        one_batch(
            batches_of(images, source=source, statistics=((0.5,) * 3, (2.0,) * 3)),
            list(range(6)),
            augmentation_table(6, 23, 1),
        )
        np.testing.assert_array_equal(images, before)

    def test_normalisation_by_channel(self):
        statistics = ((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
        images = random_images()
        plain, _ = one_batch(batches_of(images), [2])
        normalised, _ = one_batch(batches_of(images, statistics=statistics), [2])
        for channel in range(3):
            expected = (plain[0, channel] - statistics[0][channel]) / statistics[1][channel]
            torch.testing.assert_close(normalised[0, channel], expected)

    def test_normalisation_comes_after_augmentation(self):
        images = random_images()
        table = augmentation_table(len(images), 23, 1)
        augmented, _ = one_batch(batches_of(images), [3], table)
        both, _ = one_batch(batches_of(images, statistics=((0.5,) * 3, (2.0,) * 3)), [3], table)
        torch.testing.assert_close(both, (augmented - 0.5) / 2)


class TestPrefetching:
    @pytest.fixture
    def sent(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], int]]:
        """What was read so far: the indices of each batch, and the thread that read them."""
        sent = []
        send = trainer.data.batches._Sender.send

        def recording(sender, indices: np.ndarray):
            sent.append((indices.tolist(), threading.get_ident()))
            return send(sender, indices)

        monkeypatch.setattr(trainer.data.batches._Sender, "send", recording)
        return sent

    def iterate(self, count: int = 8):
        """Batches of one image each."""
        batches = batches_of(random_images(count), source="prefetched")
        return batches.iterate(np.arange(count), [slice(index, index + 1) for index in range(count)])

    def test_one_other_thread_reads_in_order(self, sent: list):
        assert len(list(self.iterate())) == 8
        assert [indices for indices, _ in sent] == [[index] for index in range(8)]
        readers = {reader for _, reader in sent}
        assert len(readers) == 1
        assert threading.get_ident() not in readers

    def test_the_next_two_batches_are_read_while_one_is_used_and_no_more(self, sent: list):
        batches = self.iterate()
        for used in range(1, 4):
            next(batches)
            deadline = time.monotonic() + 60
            while len(sent) < used + 2 and time.monotonic() < deadline:
                time.sleep(0.001)
            assert len(sent) == used + 2
        batches.close()
        assert len(sent) == 5

    def test_nothing_is_read_before_it_is_asked_for(self, sent: list):
        before = threading.active_count()
        batches = self.iterate()
        assert sent == []
        assert threading.active_count() == before
        batches.close()

    @pytest.mark.parametrize("used", [1, 3, 8])
    def test_thread_and_buffers_go_when_the_batches_are_closed(self, used: int):
        before = threading.active_count()
        with closing(self.iterate()) as batches:
            for _ in range(used):
                next(batches)
            assert threading.active_count() == before + 1
            assert len(self.senders()) == 1
        assert threading.active_count() == before
        assert self.senders() == []

    def test_thread_and_buffers_go_after_the_last_batch(self):
        before = threading.active_count()
        batches = self.iterate()
        assert len(list(batches)) == 8
        assert threading.active_count() == before
        assert self.senders() == []

    def test_an_error_of_the_loop_ends_the_thread_while_the_error_is_still_handled(self):
        before = threading.active_count()
        after = []
        try:
            with closing(self.iterate()) as batches:
                for _ in batches:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            after.append(threading.active_count())
        assert after == [before]

    def test_an_error_of_the_thread_comes_with_its_traceback_after_the_batches_before_it(self):
        before = threading.active_count()
        batches = batches_of(random_images(6), source="prefetched")
        indices = np.array([0, 1, 2, -99, 4, 5])
        labels = []
        made = batches.iterate(indices, [slice(index, index + 1) for index in range(6)])
        with pytest.raises(IndexError, match="-99") as error:
            labels.extend(label.item() for _, label in made)
        assert labels == [0, 1, 2]
        assert "row[...] = self._images[index]" in "".join(traceback.format_exception(error.value))
        assert threading.active_count() == before

    def senders(self) -> list:
        return [thing for thing in gc.get_objects() if type(thing) is trainer.data.batches._Sender]


class TestSource:
    def test_a_cpu_reads_directly(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delattr(trainer.data.batches, "_Sender")
        monkeypatch.delattr(trainer.data.batches, "_upload")
        pixels, _ = one_batch(batches_of(random_images()), [1])
        assert torch.equal(pixels, scaled(random_images()[[1]]))

    @pytest.mark.parametrize(("size", "source"), [(0, "resident"), (250, "resident"), (251, "prefetched")])
    def test_a_gpu_keeps_what_takes_a_quarter_of_its_free_memory(
        self, monkeypatch: pytest.MonkeyPatch, size: int, source: str
    ):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 8000))
        assert trainer.data.batches._choose_source(size, torch.device("cuda")) == source


class TestAugmentation:
    def test_the_identity_only_scales(self):
        images = random_images(2, 4)
        changed = augment(torch.from_numpy(images), PLAIN.repeat(2, 1))
        torch.testing.assert_close(changed, scaled(images))
        assert changed.dtype == torch.float32
        assert changed.is_contiguous(memory_format=torch.channels_last)

    def test_flips_and_turns_are_exactly_those_of_a_plain_loop(self):
        (image,) = random_images(1, 4)
        last = 3
        for orientation in range(8):
            left_right, up_down, swap = orientation & 1, orientation >> 1 & 1, orientation >> 2
            expected = np.empty_like(image)
            for y in range(4):
                for x in range(4):
                    from_y, from_x = (x, y) if swap else (y, x)
                    from_y = last - from_y if up_down else from_y
                    from_x = last - from_x if left_right else from_x
                    expected[y, x] = image[from_y, from_x]
            rows = row(left_right=left_right, up_down=up_down, swap=swap)
            torch.testing.assert_close(augment(torch.from_numpy(image[None]), rows), scaled(expected[None]))

    def test_all_quarter_turns_are_among_them(self):
        images = torch.from_numpy(random_images(1, 4))
        pixels = scaled(images.numpy())
        for turns, rows in (
            (1, row(left_right=1, swap=1)),
            (2, row(left_right=1, up_down=1)),
            (3, row(up_down=1, swap=1)),
        ):
            torch.testing.assert_close(augment(images, rows), pixels.rot90(turns, (2, 3)))

    @pytest.mark.parametrize(
        ("contrast", "brightness", "saturation"),
        [(0.8, 1, 1), (1.2, 1, 1), (1, 0.8, 1), (1, 1.2, 1), (1, 1, 0.8), (1, 1, 1.2), (1.1, 0.9, 1.2), (1, 1, 0)],
    )
    def test_colours_are_those_of_a_plain_loop(self, contrast: float, brightness: float, saturation: float):
        (image,) = random_images(1, 3)
        mean = sum(int(value) for value in image.flat) / image.size / 255
        expected = np.empty((1, 3, 3, 3))
        for y in range(3):
            for x in range(3):
                colour = [brightness * (mean + contrast * (int(value) / 255 - mean)) for value in image[y, x]]
                grey = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
                expected[0, :, y, x] = [min(1, max(0, grey + saturation * (value - grey))) for value in colour]
        rows = row(contrast=contrast, brightness=brightness, saturation=saturation)
        changed = augment(torch.from_numpy(image[None]), rows)
        np.testing.assert_allclose(changed.numpy(), expected, atol=1e-6)

    def test_saturation_leaves_greys_alone(self):
        images = torch.from_numpy(random_images(1, 4)[..., :1].repeat(3, axis=3))
        torch.testing.assert_close(augment(images, row(saturation=1.2)), augment(images, PLAIN))

    def test_the_result_stays_within_0_and_1(self):
        images = torch.tensor([0, 255], dtype=torch.uint8).repeat(24).view(1, 4, 4, 3)
        changed = augment(images, row(brightness=1.2, contrast=1.2, saturation=1.2))
        assert changed.min() == 0
        assert changed.max() == 1

    def test_each_image_of_a_batch_takes_its_own_row(self):
        images = torch.from_numpy(random_images(3, 4))
        rows = torch.cat([row(left_right=1), PLAIN, row(swap=1, contrast=0.8, brightness=0.9, saturation=1.1)])
        together = augment(images, rows)
        for index in range(3):
            assert torch.equal(together[index], augment(images[index : index + 1], rows[index : index + 1])[0])

    def test_the_table_depends_on_seed_and_epoch_only(self):
        assert torch.equal(augmentation_table(50, 23, 2), augmentation_table(50, 23, 2))
        assert not torch.equal(augmentation_table(50, 23, 2), augmentation_table(50, 23, 3))
        assert not torch.equal(augmentation_table(50, 23, 2), augmentation_table(50, 24, 2))

    def test_the_table_draws_every_orientation_and_each_factor_over_its_range(self):
        table = augmentation_table(2000, 23, 1)
        assert table.shape == (2000, 6)
        orientations, counts = table[:, :3].unique(dim=0, return_counts=True)
        assert len(orientations) == 8
        assert counts.min() > 180
        for factors in table[:, 3:].T:
            assert 0.8 <= factors.min() < 0.81
            assert 1.19 < factors.max() <= 1.2
        assert table[:, 3:].T.corrcoef().fill_diagonal_(0).abs().max() < 0.1


@pytest.mark.gpu
class TestGpu:
    @pytest.mark.parametrize("augmented", [False, True])
    def test_a_gpu_makes_the_batches_of_the_cpu(self, gpu: torch.device, source: str, augmented: bool):
        images = random_images(9, 32)
        table = augmentation_table(len(images), 23, 1)
        order = epoch_order(np.arange(9), 23, 1)
        slices = batch_slices(9, 2)
        expected = list(batches_of(images).iterate(order, slices, table if augmented else None))
        batches = batches_of(images, source=source, device=gpu)
        made = list(batches.iterate(order, slices, table.to(gpu) if augmented else None))
        for (pixels, labels), (expected_pixels, expected_labels) in zip(made, expected, strict=True):
            assert pixels.device == labels.device == gpu
            assert labels.tolist() == expected_labels.tolist()
            torch.testing.assert_close(pixels.cpu(), expected_pixels)
            assert pixels.is_contiguous(memory_format=torch.channels_last)

    @pytest.mark.parametrize("augmented", [False, True])
    def test_all_sources_give_the_same_bits(self, gpu: torch.device, augmented: bool):
        images = random_images(65, 64)
        table = augmentation_table(len(images), 23, 1).to(gpu) if augmented else None
        order = epoch_order(np.arange(65), 23, 1)
        slices = batch_slices(65, 4)
        direct, *others = (
            list(batches_of(images, source=source, device=gpu).iterate(order, slices, table))
            for source in ("direct", "prefetched", "resident")
        )
        for made in others:
            for (pixels, labels), (expected, expected_labels) in zip(made, direct, strict=True):
                assert torch.equal(pixels, expected)
                assert torch.equal(labels, expected_labels)

    def test_slow_training_finds_its_own_batch(self, gpu: torch.device):
        """Reading runs ahead of a busy training stream; without its events batches would be mixed."""
        images = np.arange(64, dtype=np.uint8).repeat(64 * 64 * 3).reshape(64, 64, 64, 3)
        batches = batches_of(images, source="prefetched", device=gpu)
        means = []
        for pixels, _ in batches.iterate(np.arange(64), batch_slices(64, 2)):
            torch.cuda._sleep(20_000_000)
            means.append(pixels.mean(dim=(1, 2, 3)))
            del pixels
        torch.testing.assert_close(torch.cat(means).cpu(), torch.arange(64) / 255)

    def test_images_are_sent_from_pinned_memory_on_a_stream_of_their_own(self, gpu: torch.device):
        sender = trainer.data.batches._Sender(random_images(), gpu, 3)
        assert all(buffer.is_pinned() for buffer in sender._buffers)
        assert sender._stream != torch.cuda.current_stream(gpu)
        raw, arrived = sender.send(np.array([5, 1]))
        assert arrived is not None
        arrived.synchronize()
        np.testing.assert_array_equal(raw.cpu().numpy(), random_images()[[5, 1]])

    def test_epochs_leave_no_memory_behind(self, gpu: torch.device):
        images = random_images(32, 64)
        slices = batch_slices(32, 4)
        reserved = []
        for epoch in range(40):
            batches = batches_of(images, source="prefetched", device=gpu)
            with closing(batches.iterate(np.arange(32), slices)) as made:
                for _ in range(1 + epoch % len(slices)):
                    next(made)
            del batches
            torch.cuda.synchronize(gpu)
            reserved.append(torch.cuda.memory_reserved(gpu))
        assert len(set(reserved[8:])) == 1

    def test_the_choice_follows_the_free_memory(self, gpu: torch.device, monkeypatch: pytest.MonkeyPatch):
        images = random_images()
        for free, source in ((4 * images.nbytes, "resident"), (4 * images.nbytes - 1, "prefetched")):
            monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
            assert batches_of(images, device=gpu)._source == source
