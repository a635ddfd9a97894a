from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.data.batches import Batches, augment, augmentation_table, batch_slices, epoch_order

CPU = torch.device("cpu")


def random_images(count: int = 6, size: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def batches_of(images: np.ndarray, *, resident: bool = False, statistics=None) -> Batches:
    labels = np.arange(len(images), dtype=np.int64)
    return Batches(images, labels, CPU, statistics=statistics, resident=resident)


def row(*, left_right: int = 0, up_down: int = 0, swap: int = 0, brightness: float = 1, contrast: float = 1):
    return torch.tensor([[left_right, up_down, swap, brightness, contrast]], dtype=torch.float32)


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


class TestGather:
    @pytest.mark.parametrize("resident", [False, True])
    def test_pixels_are_scaled_and_belong_to_their_labels(self, resident: bool):
        images = random_images()
        pixels, labels = batches_of(images, resident=resident).gather(np.array([4, 0, 4]))
        assert pixels.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert labels.tolist() == [4, 0, 4]
        expected = images[[4, 0, 4]].transpose(0, 3, 1, 2) / np.float32(255)
        np.testing.assert_allclose(pixels.numpy(), expected, rtol=1e-6)
        assert pixels.is_contiguous(memory_format=torch.channels_last)

    def test_all_values_reach_0_and_1(self):
        images = np.stack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)])
        pixels, _ = batches_of(images).gather(np.array([0, 1]))
        assert (pixels[0] == 0).all()
        assert (pixels[1] == 1).all()

    def test_a_read_only_memory_map_is_read(self, tmp_path: Path):
        images = random_images()
        np.save(tmp_path / "images.npy", images)
        mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
        indices = np.array([1, 2])
        expected, _ = batches_of(images).gather(indices)
        assert torch.equal(batches_of(mapped).gather(indices)[0], expected)
        assert torch.equal(batches_of(mapped, resident=True).gather(indices)[0], expected)

    def test_more_images_than_one_upload_stay_in_order(self):
        images = random_images(count=600, size=2)
        indices = np.array([599, 0, 255, 256, 511, 512])
        expected, _ = batches_of(images).gather(indices)
        assert torch.equal(batches_of(images, resident=True).gather(indices)[0], expected)

    def test_the_dataset_is_left_as_it_was(self):
        images = random_images()
        before = images.copy()
        batches_of(images).gather(np.arange(len(images)), augmentation_table(len(images), 23, 1))
        np.testing.assert_array_equal(images, before)

    def test_normalisation_by_channel(self):
        statistics = ((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
        images = random_images()
        plain, _ = batches_of(images).gather(np.array([2]))
        normalised, _ = batches_of(images, statistics=statistics).gather(np.array([2]))
        for channel in range(3):
            expected = (plain[0, channel] - statistics[0][channel]) / statistics[1][channel]
            torch.testing.assert_close(normalised[0, channel], expected)

    def test_normalisation_comes_after_augmentation(self):
        images = random_images()
        table = augmentation_table(len(images), 23, 1)
        augmented, _ = batches_of(images).gather(np.array([3]), table)
        both, _ = batches_of(images, statistics=((0.5,) * 3, (2.0,) * 3)).gather(np.array([3]), table)
        torch.testing.assert_close(both, (augmented - 0.5) / 2)

    @pytest.mark.gpu
    @pytest.mark.parametrize("resident", [False, True])
    def test_a_gpu_makes_the_batches_of_the_cpu(self, gpu: torch.device, resident: bool):
        images = random_images()
        table = augmentation_table(len(images), 23, 1)
        indices = np.array([5, 1, 0])
        expected, _ = batches_of(images).gather(indices, table)
        batches = Batches(images, np.arange(len(images)), gpu, resident=resident)
        pixels, labels = batches.gather(indices, table.to(gpu))
        assert pixels.device == gpu
        assert labels.tolist() == [5, 1, 0]
        torch.testing.assert_close(pixels.cpu(), expected)


class TestAugmentation:
    def test_the_identity_changes_nothing(self):
        pixels = torch.rand(1, 3, 4, 4)
        torch.testing.assert_close(augment(pixels, row()), pixels)

    def test_flips_and_turns(self):
        pixels = torch.rand(1, 3, 4, 4)
        close = torch.testing.assert_close
        close(augment(pixels, row(left_right=1)), pixels.flip(3))
        close(augment(pixels, row(up_down=1)), pixels.flip(2))
        close(augment(pixels, row(left_right=1, up_down=1)), pixels.rot90(2, (2, 3)))
        close(augment(pixels, row(up_down=1, swap=1)), pixels.rot90(-1, (2, 3)))
        close(augment(pixels, row(left_right=1, swap=1)), pixels.rot90(1, (2, 3)))

    def test_brightness_scales_and_contrast_spreads_around_the_mean(self):
        pixels = 0.4 + 0.2 * torch.rand(1, 3, 4, 4)
        torch.testing.assert_close(augment(pixels, row(brightness=1.2)), pixels * 1.2)
        changed = augment(pixels, row(contrast=0.8))
        torch.testing.assert_close(changed.mean(), pixels.mean())
        torch.testing.assert_close(changed.std(), 0.8 * pixels.std())

    def test_the_result_stays_within_0_and_1(self):
        pixels = torch.tensor([0.0, 1.0]).repeat(24).view(1, 3, 4, 4)
        changed = augment(pixels, row(brightness=1.2, contrast=1.2))
        assert changed.min() == 0
        assert changed.max() == 1

    def test_each_image_of_a_batch_takes_its_own_row(self):
        pixels = torch.rand(2, 3, 4, 4)
        changed = augment(pixels, torch.cat([row(left_right=1), row()]))
        torch.testing.assert_close(changed[0], pixels[0].flip(2))
        torch.testing.assert_close(changed[1], pixels[1])

    def test_the_table_depends_on_seed_and_epoch_only(self):
        assert torch.equal(augmentation_table(50, 23, 2), augmentation_table(50, 23, 2))
        assert not torch.equal(augmentation_table(50, 23, 2), augmentation_table(50, 23, 3))
        assert not torch.equal(augmentation_table(50, 23, 2), augmentation_table(50, 24, 2))

    def test_the_table_draws_every_orientation_and_stays_in_range(self):
        table = augmentation_table(2000, 23, 1)
        orientations, counts = table[:, :3].unique(dim=0, return_counts=True)
        assert len(orientations) == 8
        assert counts.min() > 180
        factors = table[:, 3:]
        assert factors.min() >= 0.8
        assert factors.max() <= 1.2
        assert factors.std() > 0.1

    def test_an_image_is_augmented_alike_wherever_it_stands_in_an_epoch(self):
        images = random_images()
        table = augmentation_table(len(images), 23, 1)
        batches = batches_of(images)
        alone, _ = batches.gather(np.array([3]), table)
        among, _ = batches.gather(np.array([5, 0, 3]), table)
        assert torch.equal(among[2], alone[0])
